// One turn of a conversation: a question with its buttons, or an answer.

import type { Turn } from "../conversations/conversation.js";
import type { Growing } from "../engine/answers.js";
import { button, copyButton, iconButton } from "../ui/controls.js";
import { h } from "../ui/dom.js";
import { count, rate } from "../ui/format.js";
import { GrowingMarkdown } from "./growing.js";

export interface TurnActions {
  regenerate(): void;
  edit(content: string): void;
  /** Whether an answer can be asked for now. */
  ready: boolean;
}

export function questionTurn(turn: Turn, actions: TurnActions): HTMLElement {
  const text = h("div", { class: "bubble" }, turn.content);
  const element = h("article", { class: "turn question", "aria-label": "You" });
  const read = () => {
    const edit = iconButton("pencil", "Edit", write);
    edit.disabled = !actions.ready;
    element.replaceChildren(text, h("div", { class: "turn-actions" }, copyButton("Copy", () => turn.content), edit));
    return edit;
  };
  const write = () => {
    const input = h("textarea", { class: "edit-input", "aria-label": "Edit message", rows: 3 });
    input.value = turn.content;
    const cancel = () => read().focus();
    const save = () => input.value.trim() && actions.edit(input.value.trim());
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        save();
      } else if (event.key === "Escape") {
        // Only the edit ends: an answer goes on.
        event.stopPropagation();
        cancel();
      }
    });
    element.replaceChildren(
      h("div", { class: "edit" }, input, h("p", { class: "hint" }, "The conversation goes on from here; what came after is replaced."),
        h("div", { class: "buttons" }, button("Cancel", cancel), button("Save and send", save, { kind: "primary" }))),
    );
    input.focus();
  };
  read();
  return element;
}

export function answerTurn(turn: Turn, growing: Growing | undefined, actions: TurnActions, signal: AbortSignal): HTMLElement {
  const text = h("div", { class: "answer-text" });
  const element = h("article", { class: "turn answer", "aria-label": "Assistant", "aria-busy": growing ? "true" : false });
  const markdown = new GrowingMarkdown(text);
  element.append(text);
  if (growing) {
    element.append(h("div", { class: "dots", "aria-hidden": "true" }, h("span"), h("span"), h("span")));
    const show = (content: string) => {
      element.classList.toggle("begun", content !== "");
      markdown.grow(content);
    };
    growing.text.watch(show, signal);
    return element;
  }
  markdown.grow(turn.content);
  markdown.finish();
  const note = noteOf(turn);
  if (note) element.append(h("p", { class: turn.end === "failed" ? "turn-note failed" : "turn-note" }, note));
  const again = iconButton("again", "Regenerate", () => actions.regenerate());
  again.disabled = !actions.ready;
  element.append(h("div", { class: "turn-actions" }, copyButton("Copy", () => turn.content), again, h("span", { class: "figures" }, figures(turn))));
  return element;
}

function noteOf({ end, error }: Turn): string | undefined {
  switch (end) {
    case "stop":
      return undefined;
    case "length":
      return "The answer was cut at the most tokens that the settings allow.";
    case "cancelled":
      return "Stopped.";
    case "failed":
      return error ?? "The answer failed.";
    case undefined:
      return "The page was closed before the answer was finished.";
  }
}

function figures({ model, tokens, tokensPerSecond }: Turn): string {
  const speed = tokensPerSecond === undefined ? undefined : rate(tokensPerSecond);
  return [model, tokens ? `${count(tokens)} ${tokens === 1 ? "token" : "tokens"}` : undefined, speed].filter(Boolean).join(" · ");
}
