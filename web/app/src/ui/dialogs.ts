// Dialogs of the browser's own kind: they trap the focus, close with Esc, and give the focus back.

import { button, field } from "./controls.js";
import { h, type Child } from "./dom.js";

/** Opens a dialog with this content; resolves to the value that it was closed with, "" after Esc. */
export function openDialog(title: string, id: string, ...content: Child[]): { element: HTMLDialogElement; closed: Promise<string> } {
  const element = h("dialog", { id, "aria-labelledby": `${id}-title` }, h("h2", { id: `${id}-title` }, title), ...content);
  document.body.append(element);
  const closed = new Promise<string>((resolve) => {
    element.addEventListener("close", () => {
      element.remove();
      resolve(element.returnValue);
    });
  });
  element.addEventListener("click", (event) => {
    // Only the backdrop has the dialog itself as its target; the content is in a box of its own.
    if (event.target === element && outside(element, event)) element.close();
  });
  element.showModal();
  return { element, closed };
}

/** Asks before something that cannot be undone. */
export async function confirmDialog(title: string, text: string, action: string): Promise<boolean> {
  const yes = button(action, () => element.close("yes"), { kind: "danger" });
  const no = button("Cancel", () => element.close());
  const { element, closed } = openDialog(title, "confirm", h("p", { class: "muted" }, text), h("div", { class: "dialog-buttons" }, no, yes));
  return (await closed) === "yes";
}

/** Asks for a line of text; undefined if it was cancelled. */
export async function promptDialog(title: string, label: string, value: string): Promise<string | undefined> {
  const input = h("input", { id: "prompt-input", type: "text", value, autocomplete: "off" });
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    element.close("yes");
  };
  const form = h(
    "form",
    { onsubmit: submit },
    field(label, input),
    h("div", { class: "dialog-buttons" }, button("Cancel", () => element.close()), button("Save", undefined, { kind: "primary", type: "submit" })),
  );
  const { element, closed } = openDialog(title, "prompt", form);
  input.select();
  return (await closed) === "yes" ? input.value : undefined;
}

function outside(element: HTMLElement, { clientX, clientY }: MouseEvent): boolean {
  const box = element.getBoundingClientRect();
  return clientX < box.left || clientX > box.right || clientY < box.top || clientY > box.bottom;
}
