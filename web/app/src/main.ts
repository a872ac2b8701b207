// The chat page: opens what it needs and shows the view that fits.

import { chatView } from "./chat/view.js";
import { openSettings } from "./chat/settings-dialog.js";
import { ConversationStore } from "./conversations/store.js";
import { openStorage } from "./conversations/storage.js";
import { Answers } from "./engine/answers.js";
import { EngineHost, type Choice } from "./engine/host.js";
import { offeredModels } from "./models/catalogue.js";
import { chooser } from "./models/chooser.js";
import { failureView } from "./models/failure.js";
import { loadingView } from "./models/loading.js";
import { unsupportedView } from "./models/unsupported.js";
import { Moxel, type Support } from "./moxel.js";
import { keepOffline } from "./offline.js";
import { conversationPlace, place, go, type Place } from "./place.js";
import { makeShell } from "./shell.js";
import { fill } from "./ui/dom.js";

const store = await ConversationStore.open(await openStorage());
const offered = offeredModels();
/** Hoped for until the browser has said otherwise, which can take it a second. */
let support: Support = { supported: true };
const host = new EngineHost();
const answers = new Answers(host, store);
/** What the options of the chooser begin with, after a model did not fit. */
let preset: Choice | undefined;
/** The conversation that was left to load a model. */
let left: Place | undefined;
let view = new AbortController();
let drawn = "";

const choose = (from?: Choice) => {
  preset = from;
  leave();
  host.dismiss();
  go({ kind: "models" });
};
const leave = () => {
  if (place.value.kind === "chat") left = place.value;
};
const shell = makeShell({
  host,
  store,
  answers,
  newChat: () => go({ kind: "chat" }),
  openChat: (id) => go({ kind: "chat", id }),
  openModels: () => choose(),
  openSettings: () => openSettings(host.choice?.system),
});
document.body.append(shell.element);

/** Shows what the address and the engine ask for. Loading and faults are shown where models are chosen. */
function show(): void {
  const state = host.state.value;
  const at = place.value;
  const key = at.kind === "chat" ? `chat ${at.id ?? "new"}` : `models ${support.supported ? state.kind : "unsupported"}`;
  if (key === drawn && at.kind !== "chat") return;
  if (key === drawn && at.kind === "chat" && at.id !== undefined) return;
  drawn = key;
  view.abort();
  view = new AbortController();
  fill(shell.view, makeView());
  shell.moved();
  // The composer of a chat, or the heading of what came instead.
  shell.view.querySelector<HTMLElement>("#composer, h1[tabindex]")?.focus({ preventScroll: true });
}

function makeView(): HTMLElement {
  const at = place.value;
  if (at.kind === "chat") {
    const opened = (id: string) => {
      // The view stays: it shows this conversation already, and now it has an address.
      drawn = `chat ${id}`;
      conversationPlace(id);
      shell.moved();
    };
    return chatView(at.id, { host, store, answers, choose: () => choose(), opened }, view.signal);
  }
  const state = host.state.value;
  if (!support.supported) return unsupportedView(support.reason);
  if (state.kind === "loading") return loadingView(host, state.choice.name, view.signal);
  if (state.kind === "failed") return failureView(host, state.choice, state.failure, choose);
  return chooser(host, offered, preset, view.signal);
}

let before = host.state.value.kind;
host.state.subscribe(({ kind }) => {
  if (kind === before) return;
  before = kind;
  if (kind === "loading") {
    leave();
    go({ kind: "models" });
  } else if (kind === "ready" && place.value.kind === "models") {
    go(left ?? { kind: "chat" });
    left = undefined;
  } else if (place.value.kind === "models") show();
});
place.subscribe(show);
show();
void Moxel.isSupported().then((answer) => {
  support = answer;
  if (!answer.supported) show();
});
void keepOffline(shell.offerNewer);
