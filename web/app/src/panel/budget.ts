// The slider for the share of experts that may be on the GPU.

import type { EngineHost } from "../engine/host.js";
import { h, setText } from "../ui/dom.js";
import { bytes } from "../ui/format.js";

/** While the slider moves, the engine is not rebuilt for every step; milliseconds. */
const SETTLE = 350;

export function budgetSlider(host: EngineHost, signal: AbortSignal): HTMLElement {
  const input = h("input", { id: "budget", type: "range", min: 5, max: 100, step: 5, "aria-describedby": "budget-plan" });
  const value = h("output", { id: "budget-value", for: "budget" });
  const plan = h("p", { class: "hint", id: "budget-plan", role: "status" });
  let timer: ReturnType<typeof setTimeout> | undefined;
  let touched = false;

  const label = () => {
    const all = host.engine?.info.expertBytes ?? 0;
    const text = `${input.value} %, ${bytes((all * Number(input.value)) / 100)}`;
    setText(value, text);
    input.setAttribute("aria-valuetext", text);
  };
  const apply = async () => {
    setText(plan, "Takes effect when no answer is being written…");
    await host.setExpertBudget(`${input.value}%`);
    touched = false;
  };
  input.addEventListener("input", () => {
    touched = true;
    label();
    clearTimeout(timer);
    timer = setTimeout(() => void apply(), SETTLE);
  });
  signal.addEventListener("abort", () => clearTimeout(timer));
  host.plan.watch((text) => setText(plan, text ?? ""), signal);
  host.stats.watch((stats) => {
    // Shows what the engine has, unless the user is about to set something else.
    if (touched || !stats?.experts) return;
    input.value = String(Math.round((100 * stats.experts.slots) / stats.experts.experts));
    label();
  }, signal);
  return h("div", { class: "budget" }, h("div", { class: "budget-line" }, h("label", { for: "budget" }, "Experts on the GPU"), value), input, plan);
}
