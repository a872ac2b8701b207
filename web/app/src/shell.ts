// What is around every view: the sidebar, the bar on top, notices, and the panel about the engine.

import { conversationList } from "./conversations/sidebar.js";
import type { ConversationStore } from "./conversations/store.js";
import type { Answers } from "./engine/answers.js";
import type { EngineHost } from "./engine/host.js";
import { enginePanel } from "./panel/view.js";
import { place } from "./place.js";
import { banner } from "./ui/banner.js";
import { button, iconButton } from "./ui/controls.js";
import { fill, h, setText } from "./ui/dom.js";
import { percent } from "./ui/format.js";
import { icon } from "./ui/icons.js";
import { theme, type Theme } from "./ui/theme.js";

export interface ShellActions {
  host: EngineHost;
  store: ConversationStore;
  answers: Answers;
  newChat(): void;
  openChat(id: string): void;
  openModels(): void;
  openSettings(): void;
}

export interface Shell {
  element: HTMLElement;
  /** Where views are put. */
  view: HTMLElement;
  /** To be called when another place is shown. */
  moved(): void;
  /** Says that a newer version of the page can be had. */
  offerNewer(apply: () => void): void;
}

/** Below this width the sidebar and the panel lie over the view; as in the styles. */
const NARROW = matchMedia("(max-width: 60rem)");

export function makeShell(actions: ShellActions): Shell {
  const { host, store, answers } = actions;
  const view = h("main", { id: "view", tabindex: -1 });
  const newer = banner("newer-version", "info");
  const notices = h("div", { class: "banners" }, newer.element, ...engineBanners(host, store, actions));

  const toggle = (name: "sidebar" | "panel", open?: boolean) => {
    const now = open ?? element.dataset[name] !== "open";
    element.dataset[name] = now ? "open" : "closed";
    // On a phone only one of them has room.
    if (now && NARROW.matches) element.dataset[name === "sidebar" ? "panel" : "sidebar"] = "closed";
    menuButton.setAttribute("aria-expanded", String(element.dataset.sidebar === "open"));
    panelButton.setAttribute("aria-expanded", String(element.dataset.panel === "open"));
  };
  const closeOver = () => NARROW.matches && toggle("sidebar", false);
  const openChat = (id: string) => {
    closeOver();
    actions.openChat(id);
  };
  const deleted = (id: string) => {
    answers.stop(id);
    if (currentChat() === id) actions.newChat();
  };
  const list = conversationList(store, { current: currentChat, open: openChat, deleted });
  const newChat = () => {
    closeOver();
    actions.newChat();
  };
  const sidebar = h(
    "aside",
    { class: "sidebar", id: "sidebar", "aria-label": "Sidebar" },
    h("div", { class: "brand" }, h("img", { src: "icons/icon.svg", alt: "", width: 26, height: 26 }), h("span", {}, "Moxel"),
      iconButton("close", "Close the sidebar", () => toggle("sidebar", false), { class: "icon-button only-narrow" })),
    button("New chat", newChat, { icon: "plus", id: "new-chat" }),
    list.element,
    h("div", { class: "sidebar-foot" }, themeButton(), h("a", { href: "bench.html" }, "Benchmark")),
  );
  const menuButton = iconButton("menu", "Conversations", () => toggle("sidebar"), { id: "toggle-sidebar", "aria-controls": "sidebar" });
  const panelButton = iconButton("gauge", "Engine panel", () => toggle("panel"), { id: "toggle-panel", "aria-controls": "engine-panel" });
  const bar = h(
    "header",
    { class: "bar" },
    menuButton,
    modelButton(host, () => {
      closeOver();
      actions.openModels();
    }),
    h("span", { class: "spring" }),
    iconButton("sliders", "Settings for answers", actions.openSettings, { id: "open-settings" }),
    panelButton,
  );
  const panel = enginePanel(host, answers, () => {
    toggle("panel", false);
    panelButton.focus();
  });
  const scrim = h("div", { class: "scrim", onclick: () => (toggle("sidebar", false), toggle("panel", false)) });
  const element = h(
    "div",
    { class: "shell" },
    sidebar,
    h("div", { class: "center" }, bar, notices, view),
    panel,
    scrim,
    announcer(answers),
  );
  toggle("panel", false);
  toggle("sidebar", !NARROW.matches);
  NARROW.addEventListener("change", () => toggle("sidebar", !NARROW.matches));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && NARROW.matches && !document.querySelector("dialog[open]")) {
      toggle("sidebar", false);
      toggle("panel", false);
    }
  });
  return {
    element,
    view,
    moved: list.show,
    offerNewer(apply) {
      newer.show("A newer version of this page is ready.");
      if (!newer.element.querySelector("button")) newer.element.append(button("Reload", apply));
    },
  };
}

function currentChat(): string | undefined {
  return place.value.kind === "chat" ? place.value.id : undefined;
}

function engineBanners(host: EngineHost, store: ConversationStore, { openModels }: ShellActions): HTMLElement[] {
  const recovering = banner("recovering", "warn");
  host.recovering.watch((message) => recovering.show(message && "The GPU was lost and is being recovered. The answer goes on where it stopped."));
  const retry = banner("retrying", "warn");
  host.retry.watch((message) => retry.show(host.engine && message ? `${message} Trying again…` : undefined));
  const cacheOff = banner("cache-off", "info", undefined, true);
  host.cacheOff.watch((message) => cacheOff.show(message));
  const storage = banner("storage-off", "info", undefined, true);
  store.trouble.watch((message) => storage.show(message));
  const ended = banner("engine-ended", "warn", { label: "Start again", run: () => host.reload() });
  const showEnded = () => {
    const state = host.state.value;
    ended.show(state.kind === "failed" && place.value.kind === "chat" ? state.failure.message : undefined);
  };
  host.state.subscribe(showEnded);
  place.subscribe(showEnded);
  const none = banner("no-model", "info", { label: "Choose a model", run: openModels });
  const showNone = () => none.show(host.state.value.kind === "empty" && currentChat() ? "No model is loaded. The conversation can go on with any." : undefined);
  host.state.subscribe(showNone);
  place.watch(showNone);
  return [recovering, retry, cacheOff, storage, ended, none].map(({ element }) => element);
}

/** The button that says which model is loaded, and leads to the others. */
function modelButton(host: EngineHost, onclick: () => void): HTMLElement {
  const name = h("span", { class: "model-name" });
  const state = h("span", { class: "model-state" });
  const element = h("button", { type: "button", class: "model-button", id: "model-button", onclick }, h("span", { class: "visually-hidden" }, "Model: "), h("span", { class: "model-dot" }), name, " ", state);
  host.state.watch((now) => {
    element.dataset.state = now.kind;
    setText(name, now.kind === "empty" ? "Choose a model" : now.choice.name);
    const progress = now.kind === "loading" ? now.progress : undefined;
    const loaded = progress && progress.totalBytes > 0 ? ` ${percent(progress.loadedBytes / progress.totalBytes)}` : "";
    setText(state, { empty: "", loading: `loading${loaded}`, ready: "", failed: "failed" }[now.kind]);
  });
  return element;
}

const THEMES: Record<Theme, { next: Theme; icon: "system" | "sun" | "moon"; label: string }> = {
  system: { next: "light", icon: "system", label: "Theme: as the system" },
  light: { next: "dark", icon: "sun", label: "Theme: light" },
  dark: { next: "system", icon: "moon", label: "Theme: dark" },
};

function themeButton(): HTMLElement {
  const element = iconButton("system", "Theme", () => (theme.value = THEMES[theme.value].next), { id: "theme" });
  theme.watch((value) => {
    fill(element, icon(THEMES[value].icon));
    element.setAttribute("aria-label", THEMES[value].label);
    element.title = THEMES[value].label;
  });
  return element;
}

/** Says finished answers to screen readers: whole, and not token by token. */
function announcer(answers: Answers): HTMLElement {
  const element = h("div", { class: "visually-hidden", id: "announcer", "aria-live": "polite", role: "status" });
  answers.finished.subscribe((turn) => {
    if (turn) setText(element, turn.end === "failed" ? `The answer failed: ${turn.error ?? ""}` : `Answer: ${turn.content}`);
  });
  return element;
}
