// A conversation on the screen.

import { ask, askInstead, newConversation, withoutAnswer, type Conversation } from "../conversations/conversation.js";
import type { ConversationStore } from "../conversations/store.js";
import type { Answers } from "../engine/answers.js";
import type { EngineHost } from "../engine/host.js";
import { button, iconButton } from "../ui/controls.js";
import { fill, h, setText } from "../ui/dom.js";
import { bytes } from "../ui/format.js";
import { composer } from "./composer.js";
import { followEnd } from "./follow.js";
import { answerTurn, questionTurn } from "./turn.js";

const SUGGESTIONS = ["What is the capital of France?", "Explain gravity to a child.", "Write a short poem about the sea.", "Give me three ideas for dinner."];

export interface ChatContext {
  host: EngineHost;
  store: ConversationStore;
  answers: Answers;
  /** Shows the view where models are chosen. */
  choose(): void;
  /** Tells the address which conversation this is now. */
  opened(id: string): void;
}

export function chatView(id: string | undefined, context: ChatContext, signal: AbortSignal): HTMLElement {
  const { host, store, answers } = context;
  let shown: Conversation = (id && store.get(id)) || newConversation();
  let turnsSignal = new AbortController();
  signal.addEventListener("abort", () => turnsSignal.abort());

  const turns = h("div", { class: "turns" });
  const waiting = h("p", { class: "waiting", id: "waiting", hidden: true });
  const toEnd = iconButton("down", "Scroll to the end", () => end.go(), { id: "to-end", hidden: "" });
  const scroller = h("div", { class: "scroller", id: "messages", role: "region", "aria-label": "Conversation", tabindex: 0 }, turns, waiting);
  const end = followEnd(scroller, turns, toEnd, signal);
  const input = composer((text) => void answer(ask(shown, text)), () => answers.stop(shown.id));

  const ready = () => host.engine !== undefined && host.engine.info.chat && !answers.growing.value.has(shown.id);

  const answer = async (conversation: Conversation) => {
    if (!ready()) return;
    const first = store.get(conversation.id) === undefined;
    shown = conversation;
    end.stick();
    const written = answers.answer(conversation);
    if (first) context.opened(conversation.id);
    input.focus();
    await written;
  };

  let drawn: unknown[] = [];
  /** Draws again what depends on the engine and on answers, where that changed: an edit in progress is not to be lost. */
  const showChanged = () => {
    const now = [host.state.value.kind, host.engine, answers.growing.value.get(shown.id)];
    if (now.some((value, index) => value !== drawn[index])) show();
  };
  const show = () => {
    drawn = [host.state.value.kind, host.engine, answers.growing.value.get(shown.id)];
    turnsSignal.abort();
    turnsSignal = new AbortController();
    shown = store.get(shown.id) ?? shown;
    const growing = answers.growing.value.get(shown.id);
    const last = shown.turns.length - 1;
    const elements = shown.turns.map((turn, index) => {
      const actions = {
        ready: ready(),
        regenerate: () => void answer(withoutAnswer(shown, index)),
        edit: (content: string) => void answer(askInstead(shown, index, content)),
      };
      if (turn.role === "user") return questionTurn(turn, actions);
      return answerTurn(turn, index === last ? growing : undefined, actions, turnsSignal.signal);
    });
    const title = h("h1", { class: "visually-hidden" }, shown.title);
    fill(turns, ...(elements.length > 0 ? [title, ...elements] : [welcome(context, (text) => void answer(ask(shown, text)))]));
    input.show({ ready: ready(), writing: growing !== undefined, placeholder: placeholder(host) });
  };

  answers.growing.subscribe(showChanged, signal);
  host.state.subscribe(showChanged, signal);
  // Another tab may have written here. Our own growing answer is on the screen already.
  store.list.subscribe(() => {
    const kept = store.get(shown.id);
    if (kept && kept !== shown && !answers.growing.value.has(shown.id)) show();
  }, signal);
  host.fetching.watch((fetching) => {
    waiting.hidden = !fetching || !answers.growing.value.has(shown.id);
    if (fetching) setText(waiting, `Fetching ${fetching.experts} ${fetching.experts === 1 ? "expert" : "experts"}, ${bytes(fetching.bytes)}`);
  }, signal);
  document.addEventListener("keydown", (event) => event.key === "Escape" && !document.querySelector("dialog[open]") && answers.stop(shown.id), { signal });
  show();
  return h("div", { class: "view chat" }, scroller, h("div", { class: "dock" }, toEnd, input.element, h("p", { class: "fine" }, "Computed on this device. Models make mistakes.")));
}

function placeholder({ state, engine }: EngineHost): string {
  if (engine && !engine.info.chat) return "This model has no chat template, and cannot hold a conversation";
  if (engine) return "Ask anything";
  return state.value.kind === "loading" ? "The model is being loaded" : "Load a model to ask something";
}

function welcome({ host, choose }: ChatContext, send: (text: string) => void): HTMLElement {
  const { engine } = host;
  if (!engine) {
    return h(
      "div",
      { class: "welcome" },
      h("h1", { class: "view-heading" }, "No model is loaded"),
      h("p", { class: "lead" }, "Choose one, and it runs on your own GPU."),
      button("Choose a model", choose, { kind: "primary" }),
    );
  }
  return h(
    "div",
    { class: "welcome" },
    h("h1", { class: "view-heading" }, "What would you like to know?"),
    h("p", { class: "lead" }, `${host.choice?.name ?? engine.info.name} runs here, on ${engine.info.adapter.name || "your own GPU"}.`),
    engine.info.chat && h("div", { class: "suggestions" }, ...SUGGESTIONS.map((text) => h("button", { type: "button", class: "suggestion", onclick: () => send(text) }, text))),
  );
}
