// Buttons and fields as they look everywhere on the page.

import { h, type Child } from "./dom.js";
import { icon, type IconName } from "./icons.js";

interface ButtonOptions {
  id?: string;
  kind?: "primary" | "plain" | "danger";
  icon?: IconName;
  type?: "button" | "submit";
  disabled?: boolean;
}

export function button(label: string, onclick: (() => void) | undefined, options: ButtonOptions = {}): HTMLButtonElement {
  return h(
    "button",
    { id: options.id, type: options.type ?? "button", class: `button ${options.kind ?? "plain"}`, disabled: options.disabled, onclick },
    options.icon && icon(options.icon),
    label,
  );
}

/** A button that shows only an icon; the label is its tooltip and what a screen reader says. */
export function iconButton(name: IconName, label: string, onclick: () => void, attributes: Record<string, string> = {}): HTMLButtonElement {
  return h("button", { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...attributes }, icon(name));
}

/** A label above its control, with a hint below. */
export function field(label: string, control: HTMLElement, hint?: string): HTMLElement {
  const hintId = `${control.id}-hint`;
  if (hint) control.setAttribute("aria-describedby", hintId);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, hint && h("p", { class: "hint", id: hintId }, hint));
}

/** Copies a text and says so on the button for a moment. */
export function copyButton(label: string, text: () => string): HTMLButtonElement {
  const element = iconButton("copy", label, async () => {
    const done = await copy(text());
    element.replaceChildren(icon(done ? "check" : "warning"));
    element.setAttribute("aria-label", done ? "Copied" : "Copying was refused by the browser");
    setTimeout(() => {
      element.replaceChildren(icon("copy"));
      element.setAttribute("aria-label", label);
    }, 1500);
  });
  return element;
}

async function copy(text: string): Promise<boolean> {
  try {
    // Not there at all on a page without encryption.
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

/** Offers a text as a file. */
export function saveFile(name: string, text: string, type: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = h("a", { href: url, download: name });
  link.click();
  // Revoked later, because some browsers begin to read it only after the click is over.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** A heading that can take the focus when its view opens, so that a screen reader begins there. */
export function viewHeading(text: string, ...more: Child[]): HTMLHeadingElement {
  return h("h1", { tabindex: -1, class: "view-heading" }, text, ...more);
}
