// The dialog for the system prompt and for how tokens are drawn.

import { DEFAULTS, settings, type Settings } from "../settings.js";
import { button, field } from "../ui/controls.js";
import { openDialog } from "../ui/dialogs.js";
import { h } from "../ui/dom.js";

interface NumberField {
  name: Exclude<keyof Settings, "system">;
  label: string;
  hint: string;
  min: number;
  max: number;
  step: number | "any";
}

const NUMBERS: NumberField[] = [
  { name: "temperature", label: "Temperature", hint: "0 always takes the likeliest token; higher is more varied.", min: 0, max: 2, step: "any" },
  { name: "max_tokens", label: "Longest answer", hint: "In tokens.", min: 1, max: 131072, step: 1 },
  { name: "top_p", label: "Top p", hint: "Draws among the likeliest tokens with this share together.", min: 0, max: 1, step: "any" },
  { name: "top_k", label: "Top k", hint: "Draws among so many of the likeliest; 0 is no limit.", min: 0, max: 1000, step: 1 },
  { name: "min_p", label: "Min p", hint: "Drops tokens less likely than this share of the likeliest.", min: 0, max: 1, step: "any" },
  { name: "repetition_penalty", label: "Repetition penalty", hint: "Above 1, words that are there already become rarer.", min: 0.5, max: 2, step: "any" },
  { name: "seed", label: "Seed", hint: "The same seed gives the same answer; empty draws a new one each time.", min: 0, max: 4294967295, step: 1 },
];

/** `suggested` is said where the user leaves the system prompt empty. */
export function openSettings(suggested: string | undefined): void {
  const system = h("textarea", { id: "set-system", rows: 4, placeholder: suggested ?? "None" });
  const inputs = NUMBERS.map(({ name, min, max, step }) =>
    h("input", { id: `set-${name}`, type: "number", min, max, step, required: name !== "seed", inputmode: "decimal", placeholder: name === "seed" ? "random" : undefined }),
  );
  const show = (values: Readonly<Settings>) => {
    system.value = values.system;
    inputs.forEach((input, index) => {
      const name = NUMBERS[index]?.name;
      input.value = name === undefined ? "" : String(values[name] ?? "");
    });
  };
  const save = (event: SubmitEvent) => {
    event.preventDefault();
    const numbers = inputs.map((input, index) => [NUMBERS[index]?.name, input.value === "" ? null : Number(input.value)]);
    settings.value = { ...DEFAULTS, ...Object.fromEntries(numbers), system: system.value };
    element.close();
  };
  const form = h(
    "form",
    { onsubmit: save },
    field("System prompt", system, "Said to the model before every conversation."),
    h("div", { class: "number-grid" }, ...NUMBERS.map(({ label, hint }, index) => field(label, inputs[index] as HTMLInputElement, hint))),
    h(
      "div",
      { class: "dialog-buttons" },
      button("Defaults", () => show(DEFAULTS)),
      h("span", { class: "spring" }),
      button("Cancel", () => element.close()),
      button("Save", undefined, { kind: "primary", type: "submit" }),
    ),
  );
  show(settings.value);
  const { element } = openDialog("Settings for answers", "settings", form);
}
