// The panel about the engine: adapter, speed, memory, where bytes came from, and the experts.

import type { Answers, Speed } from "../engine/answers.js";
import type { EngineHost } from "../engine/host.js";
import type { Engine, ModelInfo, Stats } from "../moxel.js";
import { button, iconButton } from "../ui/controls.js";
import { fill, h, setText } from "../ui/dom.js";
import { bytes, count, percent, rate } from "../ui/format.js";
import { budgetSlider } from "./budget.js";
import { expertRows } from "./expert-data.js";
import { ExpertMap } from "./expert-map.js";
import { ExpertTable } from "./expert-table.js";
import { Figures } from "./figures.js";
import { adapterFigures, modelFigures } from "./info.js";

export function enginePanel(host: EngineHost, answers: Answers, close: () => void): HTMLElement {
  const body = h("div", { class: "panel-body" });
  const element = h(
    "aside",
    { class: "panel", id: "engine-panel", "aria-label": "Engine" },
    h("header", { class: "panel-head" }, h("h2", {}, "Engine"), iconButton("close", "Close the engine panel", close, { id: "close-panel" })),
    body,
  );
  let shown: Engine | undefined;
  let inside = new AbortController();
  host.state.watch(() => {
    const { engine } = host;
    if (engine && engine === shown) return;
    inside.abort();
    inside = new AbortController();
    shown = engine;
    if (engine) fill(body, ...sections(engine, host, answers, inside.signal));
    else fill(body, h("p", { class: "muted empty" }, "Figures appear here when a model is loaded."));
  });
  return element;
}

function sections({ info }: Engine, host: EngineHost, answers: Answers, signal: AbortSignal): HTMLElement[] {
  const speed = new Figures(["Prompt", "Generation", "Tokens"], "figure-speed");
  answers.speed.watch((value) => speed.show(speedFigures(value)), signal);
  const memory = new Figures(["GPU", "Experts in memory", "Engine's heap", "Page's heap"], "figure-memory");
  const read = new Figures(["From the network", "From the disk cache", "From memory", "From files", "Requests"], "figure-read");
  host.stats.watch((stats) => {
    if (!stats) return;
    memory.show(memoryFigures(stats));
    read.show(readFigures(stats));
  }, signal);
  return [
    section("Speed", speed.element),
    ...(info.moeLayers.length > 0 ? [expertSection(info, host, signal)] : []),
    section("Memory", memory.element),
    section("Bytes read", read.element),
    section("Adapter", adapterFigures(info).element),
    section("Model", modelFigures(info).element, h("div", { class: "buttons" }, button("Unload", () => void host.unload(), { id: "unload" }))),
  ];
}

function section(title: string, ...content: HTMLElement[]): HTMLElement {
  const id = `panel-${title.toLowerCase().replace(/\W+/g, "-")}`;
  return h("section", { "aria-labelledby": id }, h("h3", { id }, title), ...content);
}

function expertSection(info: ModelInfo, host: EngineHost, signal: AbortSignal): HTMLElement {
  const map = new ExpertMap(signal);
  const table = new ExpertTable();
  const figures = new Figures(["Hit rate", "Hits", "Misses", "Bytes per token", "Stalled layers per token"], "figure-experts");
  const note = h("p", { class: "hint" });
  let before: Stats | undefined;
  let last: Stats | undefined;
  host.stats.watch((stats) => {
    if (!stats?.experts) return;
    // What was chosen a moment ago stays marked until another token came.
    if (stats.experts.tokens !== last?.experts?.tokens) [before, last] = [last, stats];
    const rows = expertRows(info, stats, before);
    map.show(rows);
    table.show(rows);
    figures.show(expertFigures(stats));
    setText(note, stats.experts.tokens === 0 ? "The map fills when the model answers." : "");
  }, signal);
  return section("Experts", budgetSlider(host, signal), figures.element, map.element, note, table.element);
}

function speedFigures(speed: Speed | undefined): Record<string, string> {
  const cached = speed?.cachedTokens ? `, ${count(speed.cachedTokens)} kept` : "";
  return {
    Prompt: speed?.promptPerSecond === undefined ? "–" : `${rate(speed.promptPerSecond)} (${count(speed.promptTokens ?? 0)}${cached})`,
    Generation: rate(speed?.perSecond),
    Tokens: speed ? String(speed.tokens) : "–",
  };
}

function expertFigures({ experts }: Stats): Record<string, string> {
  if (!experts) return {};
  return {
    "Hit rate": experts.hits + experts.misses > 0 ? percent(experts.hit_rate) : "–",
    Hits: count(experts.hits),
    Misses: count(experts.misses),
    "Bytes per token": bytes(experts.demand_bytes_per_token),
    "Stalled layers per token": experts.stalled_layers_per_token.toFixed(1),
  };
}

function memoryFigures(stats: Stats): Record<string, string> {
  // Only Chromium tells, and only its own.
  const heap = (performance as { memory?: { usedJSHeapSize: number } }).memory?.usedJSHeapSize;
  return {
    GPU: bytes(stats.gpuBytes),
    "Experts in memory": bytes(stats.memoryBytes),
    "Engine's heap": bytes(stats.wasmBytes),
    ...(heap === undefined ? {} : { "Page's heap": bytes(heap) }),
  };
}

function readFigures({ read, requests }: Stats): Record<string, string> {
  return {
    "From the network": bytes(read.network),
    "From the disk cache": bytes(read.disk),
    "From memory": bytes(read.memory),
    ...(read.file > 0 ? { "From files": bytes(read.file) } : {}),
    Requests: count(requests),
  };
}
