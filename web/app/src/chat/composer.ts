// The field where a question is written. Enter sends, Shift+Enter begins a new line.

import { h } from "../ui/dom.js";
import { icon } from "../ui/icons.js";

export interface Composer {
  element: HTMLFormElement;
  focus(): void;
  /** Shows whether questions can be asked, or why not, and whether an answer can be stopped. */
  show(state: { ready: boolean; writing: boolean; placeholder: string }): void;
  draft: string;
}

export function composer(send: (text: string) => void, stop: () => void): Composer {
  const input = h("textarea", { id: "composer", rows: 1, "aria-label": "Message", enterkeyhint: "send", autocomplete: "off" });
  const action = h("button", { type: "submit", class: "send", id: "send", "aria-label": "Send", title: "Send (Enter)" }, icon("send"));
  let ready = false;
  let writing = false;
  const fit = () => {
    input.style.height = "auto";
    input.style.height = `${Math.min(input.scrollHeight, 240)}px`;
    action.disabled = !writing && (!ready || input.value.trim() === "");
  };
  const submit = () => {
    const text = input.value.trim();
    if (!ready || writing || !text) return;
    input.value = "";
    fit();
    send(text);
  };
  input.addEventListener("input", fit);
  input.addEventListener("keydown", (event) => {
    // While an input method composes a word, Enter belongs to it.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  });
  const element = h("form", { class: "composer", onsubmit: (event: SubmitEvent) => {
    event.preventDefault();
    if (writing) {
      stop();
      input.focus();
    } else {
      submit();
    }
  } }, input, action);
  return {
    element,
    focus: () => input.focus(),
    show(state) {
      ({ ready, writing } = state);
      input.placeholder = state.placeholder;
      const label = writing ? "Stop" : "Send";
      if (action.getAttribute("aria-label") !== label) {
        action.setAttribute("aria-label", label);
        action.title = writing ? "Stop (Esc)" : "Send (Enter)";
        action.replaceChildren(icon(writing ? "stop" : "send"));
      }
      fit();
    },
    get draft() {
      return input.value;
    },
    set draft(text: string) {
      input.value = text;
      fit();
    },
  };
}
