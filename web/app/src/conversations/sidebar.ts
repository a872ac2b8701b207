// The list of conversations, with what can be done with each.

import { button, iconButton, saveFile } from "../ui/controls.js";
import { confirmDialog, openDialog, promptDialog } from "../ui/dialogs.js";
import { fill, h } from "../ui/dom.js";
import { day } from "../ui/format.js";
import type { Conversation } from "./conversation.js";
import { asJson, asMarkdown, fileName } from "./export.js";
import type { ConversationStore } from "./store.js";

export interface SidebarActions {
  current(): string | undefined;
  open(id: string): void;
  deleted(id: string): void;
}

export function conversationList(store: ConversationStore, actions: SidebarActions): { element: HTMLElement; show(): void } {
  const element = h("nav", { class: "conversations", id: "conversations", "aria-label": "Conversations" });
  let drawn = "";
  const show = () => {
    const conversations = store.list.value;
    // A growing answer is kept again and again; the list is drawn anew only when it shows something else.
    const state = JSON.stringify([actions.current(), conversations.map(({ id, title, updated }) => [id, title, day(updated)])]);
    if (state === drawn) return;
    drawn = state;
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset.key : undefined;
    const groups = new Map<string, Conversation[]>();
    for (const one of conversations) groups.set(day(one.updated), [...(groups.get(day(one.updated)) ?? []), one]);
    fill(
      element,
      conversations.length === 0 && h("p", { class: "muted empty" }, "Conversations appear here."),
      ...[...groups].flatMap(([label, members]) => [h("h2", {}, label), h("ul", {}, ...members.map((one) => row(one, store, actions)))]),
    );
    if (focused) element.querySelector<HTMLElement>(`[data-key="${focused}"]`)?.focus();
  };
  store.list.subscribe(show);
  show();
  return { element, show };
}

function row(conversation: Conversation, store: ConversationStore, actions: SidebarActions): HTMLElement {
  const { id, title } = conversation;
  const current = actions.current() === id;
  const open = h("button", { type: "button", class: "conversation", "aria-current": current ? "page" : false, "data-key": id, title, onclick: () => actions.open(id) }, title);
  const more = iconButton("more", `More about ${title}`, () => void menu(id, store, actions), { "data-key": `more-${id}`, "aria-haspopup": "dialog" });
  return h("li", { class: current ? "current" : "" }, open, more);
}

async function menu(id: string, store: ConversationStore, actions: SidebarActions): Promise<void> {
  const conversation = store.get(id);
  if (!conversation) return;
  const choose = (value: string) => () => element.close(value);
  const { element, closed } = openDialog(
    conversation.title,
    "conversation-menu",
    h(
      "div",
      { class: "menu" },
      button("Rename", choose("rename"), { icon: "pencil" }),
      button("Export as Markdown", choose("markdown"), { icon: "download" }),
      button("Export as JSON", choose("json"), { icon: "download" }),
      button("Delete", choose("delete"), { icon: "trash", kind: "danger" }),
    ),
    h("div", { class: "dialog-buttons" }, button("Close", choose(""))),
  );
  switch (await closed) {
    case "rename": {
      const title = await promptDialog("Rename conversation", "Title", conversation.title);
      if (title !== undefined) store.rename(id, title);
      break;
    }
    case "markdown":
      saveFile(fileName(conversation, "md"), asMarkdown(conversation), "text/markdown");
      break;
    case "json":
      saveFile(fileName(conversation, "json"), asJson(conversation), "application/json");
      break;
    case "delete":
      if (await confirmDialog("Delete this conversation?", `"${conversation.title}" is deleted from this browser for good.`, "Delete")) {
        store.delete(id);
        actions.deleted(id);
      }
      break;
  }
}
