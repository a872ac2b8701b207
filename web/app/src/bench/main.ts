// The benchmark page: `moxel bench` on the browser that opens it.

import { failureOf } from "../engine/failure.js";
import { offeredModels, nameOfUrl, parseUrl, type OfferedModel } from "../models/catalogue.js";
import { unsupportedView } from "../models/unsupported.js";
import { Moxel, type Engine, type LoadProgress } from "../moxel.js";
import { button, copyButton, field, saveFile } from "../ui/controls.js";
import { fill, h, setText } from "../ui/dom.js";
import { bytes } from "../ui/format.js";
import { adapterFigures, modelFigures } from "../panel/info.js";
import { chart } from "./chart.js";
import { checkOutput, type Verdict } from "./expected.js";
import { asJson, asMarkdown } from "./report.js";
import { bench, type BenchRow, type BenchSettings } from "./measure.js";

const [offered, support] = await Promise.all([offeredModels(), Moxel.isSupported()]);
const header = h(
  "header",
  { class: "bench-head" },
  h("a", { href: "./", class: "brand" }, h("img", { src: "icons/icon.svg", alt: "", width: 26, height: 26 }), "Moxel"),
  h("a", { href: "./" }, "Chat"),
);
const main = h("main", { class: "view bench" }, ...(support.supported ? benchmark() : [unsupportedView(support.reason)]));
document.body.append(h("div", { class: "bench-page" }, header, main));

function benchmark(): HTMLElement[] {
  const model = h("select", { id: "bench-model" }, ...offered.map(({ id, name }) => h("option", { value: id }, name)), h("option", { value: "" }, "An address…"));
  const url = h("input", { id: "bench-url", type: "text", inputmode: "url", placeholder: "https://…/model.gguf", spellcheck: "false", autocomplete: "off" });
  const urlField = field("Model address", url);
  const number = (id: string, value: number, min: number) => h("input", { id, type: "number", value, min, step: 1, required: true });
  const prompt = number("bench-prompt", 128, 0);
  const generate = number("bench-generate", 32, 0);
  const repetitions = number("bench-repetitions", 5, 1);
  const start = button("Run", undefined, { kind: "primary", type: "submit", id: "run-bench" });
  const stop = button("Stop", () => abort?.abort(), { id: "stop-bench" });
  const status = h("p", { class: "muted", id: "bench-status", role: "status" });
  const bar = h("progress", { id: "bench-progress", max: 1, value: 0, "aria-label": "Progress", hidden: true });
  const results = h("div", { class: "bench-results", id: "bench-results" });
  let abort: AbortController | undefined;
  const chosen = () => {
    urlField.hidden = model.value !== "";
    stop.hidden = abort === undefined;
    start.disabled = abort !== undefined;
  };
  model.addEventListener("change", chosen);
  chosen();

  const run = async (event: SubmitEvent) => {
    event.preventDefault();
    const offer = offered.find(({ id }) => id === model.value);
    const address = offer ? { url: offer.url } : parseUrl(url.value);
    if ("problem" in address) return setText(status, address.problem);
    const settings = { prompt: prompt.valueAsNumber, generate: generate.valueAsNumber, repetitions: repetitions.valueAsNumber };
    if (settings.prompt === 0 && settings.generate === 0) return setText(status, "No prompt and no generation leave nothing to measure.");
    abort = new AbortController();
    chosen();
    bar.hidden = false;
    results.replaceChildren();
    try {
      await measure(address.url, offer, settings, abort.signal, { status, bar, results });
      setText(status, "Done.");
    } catch (error) {
      setText(status, abort.signal.aborted ? "Stopped." : failureOf(error).message);
    } finally {
      abort = undefined;
      bar.hidden = true;
      chosen();
    }
  };
  return [
    h("h1", { class: "view-heading" }, "Benchmark"),
    h("p", { class: "lead" }, "How fast this browser and GPU process a prompt (pp) and generate (tg), measured as ", h("code", {}, "moxel bench"), " does it natively."),
    h(
      "form",
      { class: "bench-form", onsubmit: (event: SubmitEvent) => void run(event) },
      h("div", { class: "model-grid" }, field("Model", model), urlField),
      h("div", { class: "number-grid" }, field("Prompt tokens", prompt), field("Generated tokens", generate), field("Repetitions", repetitions)),
      h("div", { class: "buttons" }, start, stop),
    ),
    bar,
    status,
    results,
  ];
}

interface Places {
  status: HTMLElement;
  bar: HTMLProgressElement;
  results: HTMLElement;
}

async function measure(url: string, offer: OfferedModel | undefined, settings: BenchSettings, signal: AbortSignal, places: Places): Promise<void> {
  const { status, bar, results } = places;
  const name = offer?.name ?? nameOfUrl(url);
  setText(status, `Loading ${name}…`);
  const onProgress = ({ loadedBytes, totalBytes }: LoadProgress) => {
    bar.value = totalBytes > 0 ? loadedBytes / totalBytes : 0;
    setText(status, `Loading ${name}: ${bytes(loadedBytes)} of ${bytes(totalBytes)}`);
  };
  const engine = await Moxel.load({ model: url, context: contextFor(settings), onProgress, signal });
  try {
    fill(results, machine(engine));
    const step = (test: string, done: number, all: number) => {
      bar.value = done / all;
      setText(status, `Measuring ${test}, run ${done + 1} of ${all}`);
    };
    const rows = await bench(engine, settings, { step, signal });
    fill(results, figures(rows), machine(engine));
    setText(status, "Checking the output…");
    const verdict = await checkOutput(engine, nameOfUrl(url), signal);
    fill(results, figures(rows), verdictLine(verdict), exports(engine, rows, verdict), machine(engine));
  } finally {
    await engine.unload();
  }
}

/** Room for what is measured, and for the check of the output. */
function contextFor({ prompt, generate }: BenchSettings): number {
  return Math.max(prompt, generate) + 64;
}

function figures(rows: BenchRow[]): HTMLElement {
  const cells = ["Test", "Tokens/s", "Deviation", "Runs"].map((text) => h("th", { scope: "col" }, text));
  const body = rows.map(({ test, tokens_per_second, stddev, samples }) =>
    h(
      "tr",
      { "data-test": test },
      h("th", { scope: "row" }, test),
      h("td", {}, tokens_per_second.toFixed(2)),
      h("td", {}, stddev.toFixed(2)),
      h("td", {}, samples.map((value) => value.toFixed(2)).join(", ")),
    ),
  );
  const table = h("table", { id: "bench-table" }, h("caption", { class: "visually-hidden" }, "Results"), h("thead", {}, h("tr", {}, ...cells)), h("tbody", {}, ...body));
  const section = h("section", { "aria-label": "Results" }, h("div", { class: "table-scroll" }, table));
  section.prepend(chart(rows));
  return section;
}

function verdictLine(verdict: Verdict | undefined): HTMLElement {
  const text =
    verdict === undefined
      ? "Nothing is known about what this model should say: its output was not checked."
      : verdict.same
        ? `The output is right: all ${verdict.expected.length} tokens are those of the native run.`
        : `The output is wrong: expected tokens ${verdict.expected.join(" ")}, got ${verdict.got.join(" ")}.`;
  return h("p", { id: "bench-verdict", class: "verdict", "data-same": verdict === undefined ? "unknown" : String(verdict.same) }, text);
}

function exports(engine: Engine, rows: BenchRow[], verdict: Verdict | undefined): HTMLElement {
  const save = () => saveFile("moxel-bench.json", asJson(engine, rows, verdict), "application/json");
  return h(
    "div",
    { class: "buttons" },
    button("Export JSON", save, { icon: "download", id: "export-bench" }),
    h("span", { class: "copy-line" }, "Copy as Markdown", copyButton("Copy as Markdown", () => asMarkdown(rows))),
  );
}

function machine(engine: Engine): HTMLElement {
  return h(
    "section",
    { class: "bench-machine", "aria-label": "What was measured" },
    h("div", {}, h("h2", {}, "Adapter"), adapterFigures(engine.info).element),
    h("div", {}, h("h2", {}, "Model"), modelFigures(engine.info).element),
  );
}
