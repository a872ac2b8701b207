// The view for a model that could not be loaded, or an engine that ended: what happened, and what to do.

import type { Failure } from "../engine/failure.js";
import type { Choice, EngineHost } from "../engine/host.js";
import { button, viewHeading } from "../ui/controls.js";
import { h } from "../ui/dom.js";
import { icon } from "../ui/icons.js";

interface Advice {
  title: string;
  /** What the button that tries again says; undefined where trying again changes nothing. */
  again?: string;
  steps: string[];
}

export function failureView(host: EngineHost, choice: Choice, failure: Failure, choose: (preset: Choice) => void): HTMLElement {
  const { title, again, steps } = adviceFor(failure);
  const change = ["too-small", "request"].includes(failure.code) ? "Change the options" : "Choose a model";
  return h(
    "div",
    { class: "view failure", id: "load-failure", "data-code": failure.code },
    h("div", { class: "failure-icon" }, icon("warning")),
    viewHeading(title),
    h("p", { class: "sentence", role: "alert" }, failure.message),
    steps.length > 0 && h("ul", { class: "steps" }, ...steps.map((step) => h("li", {}, step))),
    h(
      "div",
      { class: "buttons" },
      again && button(again, () => host.reload(), { kind: "primary", id: "try-again" }),
      button(change, () => choose(choice), { kind: again ? "plain" : "primary", id: "choose-other" }),
    ),
  );
}

function adviceFor({ code }: Failure): Advice {
  switch (code) {
    case "too-small":
      return {
        title: "This model does not fit",
        steps: [
          "For a mixture of experts, set a smaller expert budget: a half or a quarter of the experts is enough, and the answers stay the same.",
          "Set a smaller context: the memory of a conversation grows with it.",
          "Close other tabs that use the GPU, or choose a smaller model.",
        ],
      };
    case "read":
      return {
        title: "The model could not be read",
        again: "Resume",
        steps: ["What was downloaded is kept, so that the next attempt goes on where this one ended."],
      };
    case "request":
      return { title: "The model cannot be loaded like this", steps: [] };
    case "format":
    case "unsupported":
    case "tokenizer":
    case "template":
      return { title: "This model cannot be used", steps: ["Choose another model, or another file of it."] };
    case "no-webgpu":
      return { title: "The GPU cannot be used", again: "Try again", steps: ["Restarting the browser often helps after a driver was updated or has crashed."] };
    case "gpu":
    case "device-lost":
      return {
        title: "The GPU was lost",
        again: "Reload the engine",
        steps: ["Your conversations are kept. Loading takes the model from this browser's cache where it is there."],
      };
    case "worker":
      return { title: "The engine has ended", again: "Start again", steps: ["Your conversations are kept. The browser may have ended it to save memory."] };
    default:
      return { title: "The model could not be loaded", again: "Try again", steps: [] };
  }
}
