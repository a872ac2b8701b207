// Notices above the view: what happened outside of what the user did.

import { iconButton } from "./controls.js";
import { h, setText } from "./dom.js";

export interface Banner {
  element: HTMLElement;
  /** Shows a text, or nothing. */
  show(text: string | undefined): void;
}

export function banner(id: string, kind: "info" | "warn", action?: { label: string; run(): void }, dismissable = false): Banner {
  const text = h("span", { class: "banner-text" });
  const element = h(
    "div",
    { class: `banner ${kind}`, id, role: "status", hidden: true },
    text,
    action && h("button", { type: "button", class: "button plain small", onclick: () => action.run() }, action.label),
    dismissable && iconButton("close", "Dismiss", () => (element.hidden = true)),
  );
  return {
    element,
    show(message) {
      element.hidden = !message;
      setText(text, message ?? "");
    },
  };
}
