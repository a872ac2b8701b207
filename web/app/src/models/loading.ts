// The view while a model is loaded: each part with its bytes, where they come from, how fast, and how long yet.

import type { EngineHost, HostState } from "../engine/host.js";
import type { LoadProgress } from "../moxel.js";
import { button, viewHeading } from "../ui/controls.js";
import { h, setText } from "../ui/dom.js";
import { bytes, duration } from "../ui/format.js";

const PARTS = [
  ["open", "Configuration and tokenizer"],
  ["dense", "What every token needs"],
  ["experts", "Experts"],
] as const;

type Part = (typeof PARTS)[number][0];

export function loadingView(host: EngineHost, name: string, signal: AbortSignal): HTMLElement {
  const bar = h("progress", { id: "load-progress", "aria-label": "Loaded", max: 1 });
  const amount = h("span", { id: "load-bytes" }, "Starting…");
  const time = h("span", { id: "load-time" });
  const origin = h("p", { class: "muted", id: "load-origin" });
  const retry = h("p", { class: "notice warn", id: "load-retry", role: "status", hidden: true });
  const parts = PARTS.map(([part, label]) => {
    const size = h("span", { class: "muted" });
    return { part, size, element: h("li", { class: "part", "data-part": part, hidden: part === "experts" }, h("span", { class: "part-mark" }), h("span", {}, label), size) };
  });
  const seen = new PartSizes();

  const show = (state: HostState) => {
    const progress = state.kind === "loading" ? state.progress : undefined;
    if (!progress) return;
    bar.value = progress.totalBytes > 0 ? progress.loadedBytes / progress.totalBytes : 0;
    setText(amount, `${bytes(progress.loadedBytes)} of ${bytes(progress.totalBytes)}`);
    setText(time, timeText(progress));
    setText(origin, originText(progress));
    seen.add(progress);
    for (const { part, size, element } of parts) {
      element.dataset.state = seen.stateOf(part);
      // A dense model has none, and one does not know before they come.
      element.hidden = part === "experts" && !["active", "done"].includes(seen.stateOf(part));
      setText(size, seen.textOf(part));
    }
  };
  host.state.watch(show, signal);
  host.retry.watch((message) => {
    retry.hidden = !message;
    setText(retry, message ? `${message} Trying again…` : "");
  }, signal);

  return h(
    "div",
    { class: "view loading" },
    viewHeading(`Loading ${name}`),
    bar,
    h("p", { class: "load-line" }, amount, time),
    h("ol", { class: "parts" }, ...parts.map(({ element }) => element)),
    origin,
    retry,
    h("div", { class: "buttons" }, button("Cancel", () => host.cancel(), { id: "cancel-load" })),
  );
}

/** How many bytes each part had, from the totals that are reported. */
class PartSizes {
  #current: Part | "ready" = "open";
  readonly #ends = new Map<Part, number>();
  #loaded = 0;

  add({ phase, loadedBytes }: LoadProgress): void {
    if (phase !== this.#current && this.#current !== "ready") this.#ends.set(this.#current, this.#loaded);
    this.#current = phase;
    this.#loaded = loadedBytes;
  }

  stateOf(part: Part): "waiting" | "active" | "done" {
    if (part === this.#current) return "active";
    const order = PARTS.map(([name]) => name);
    const now = this.#current === "ready" ? order.length : order.indexOf(this.#current);
    if (order.indexOf(part) > now) return "waiting";
    return this.#ends.has(part) ? "done" : "waiting";
  }

  textOf(part: Part): string {
    const before = part === "experts" ? (this.#ends.get("dense") ?? 0) : part === "dense" ? (this.#ends.get("open") ?? 0) : 0;
    const end = this.#ends.get(part) ?? (part === this.#current ? this.#loaded : undefined);
    return end === undefined || end - before <= 0 ? "" : bytes(end - before);
  }
}

function timeText({ loadedBytes, totalBytes, bytesPerSecond, secondsLeft }: LoadProgress): string {
  // Everything is there; kernels are made and measured now.
  if (totalBytes > 0 && loadedBytes >= totalBytes) return "Preparing the GPU…";
  const speed = bytesPerSecond === undefined ? "" : `${bytes(bytesPerSecond)}/s`;
  const left = secondsLeft === undefined ? "" : `${duration(secondsLeft)} left`;
  return [speed, left].filter(Boolean).join(", ");
}

function originText({ networkBytes, diskBytes }: LoadProgress): string {
  const parts = [networkBytes > 0 && `${bytes(networkBytes)} from the network`, diskBytes > 0 && `${bytes(diskBytes)} from this browser's cache`];
  return parts.filter(Boolean).join(", ");
}
