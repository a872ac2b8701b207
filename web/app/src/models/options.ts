// What is set before a model is loaded: budget for experts, context, precision, cache.

import type { Choice } from "../engine/host.js";
import { h } from "../ui/dom.js";
import { field } from "../ui/controls.js";

export interface OptionsForm {
  element: HTMLDetailsElement;
  /** What is set now, or the problem with it, whose field then has the focus. */
  read(): { options: Choice["options"] } | { problem: string };
  set(options: Choice["options"]): void;
}

const BUDGET = /^(auto|\d+([.,]\d+)?\s*(%|[kmgt]i?b))$/i;

export function optionsForm(): OptionsForm {
  const budget = h("input", { id: "load-budget", type: "text", placeholder: "auto", spellcheck: "false", autocomplete: "off", list: "load-budgets" });
  const budgets = h("datalist", { id: "load-budgets" }, ...["auto", "100%", "50%", "25%", "512MB", "2GB"].map((value) => h("option", { value })));
  const context = h("input", { id: "load-context", type: "number", min: "16", step: "1", placeholder: "as trained, at most 4096", inputmode: "numeric" });
  const precision = h(
    "select",
    { id: "load-precision" },
    h("option", { value: "fast" }, "Fast"),
    h("option", { value: "exact" }, "Exact (32 bits)"),
  );
  const cache = h("input", { id: "load-cache", type: "checkbox", checked: true });
  const element = h(
    "details",
    { class: "options", id: "load-options" },
    h("summary", {}, "Options"),
    h(
      "div",
      { class: "options-grid" },
      field("Expert budget", budget, "GPU memory for experts: auto, a share like 50% or a size like 2GB. Answers are the same at any budget."),
      budgets,
      field("Context", context, "Tokens that a conversation can hold. Less needs less memory."),
      field("Precision", precision),
      h("label", { class: "check", for: "load-cache" }, cache, "Keep the model in this browser"),
    ),
  );
  const wrong = (control: HTMLInputElement, problem: string) => {
    element.open = true;
    control.focus();
    return { problem };
  };
  return {
    element,
    read() {
      const share = budget.value.trim();
      if (share && !BUDGET.test(share)) return wrong(budget, `"${share}" is no budget: write auto, 50% or 2GB.`);
      const positions = context.value === "" ? undefined : Number(context.value);
      if (!context.validity.valid || (positions !== undefined && positions < 16)) return wrong(context, "The context is a number of tokens, at least 16.");
      return {
        options: {
          precision: precision.value === "exact" ? "exact" : "fast",
          cache: cache.checked,
          ...(share ? { expertBudget: share.replace(/\s/g, "") } : {}),
          ...(positions === undefined ? {} : { context: positions }),
        },
      };
    },
    set(options) {
      budget.value = options.expertBudget === undefined ? "" : String(options.expertBudget);
      context.value = options.context === undefined ? "" : String(options.context);
      precision.value = options.precision ?? "fast";
      cache.checked = options.cache ?? true;
    },
  };
}
