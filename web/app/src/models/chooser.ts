// The view where a model is chosen: offered ones, an address, local files, and what is in the cache.

import type { Choice, EngineHost } from "../engine/host.js";
import { Moxel, type CachedModel } from "../moxel.js";
import { button, field, iconButton, viewHeading } from "../ui/controls.js";
import { confirmDialog } from "../ui/dialogs.js";
import { fill, h } from "../ui/dom.js";
import { bytes } from "../ui/format.js";
import { icon } from "../ui/icons.js";
import { nameOfUrl, parseUrl, type OfferedModel } from "./catalogue.js";
import { optionsForm } from "./options.js";
import { droppedFiles, modelOfFiles } from "./picked.js";

/** The view; `preset` is a choice that was made before, whose options are shown opened. */
export function chooser(host: EngineHost, offers: Promise<OfferedModel[]>, preset: Choice | undefined, signal: AbortSignal): HTMLElement {
  const form = optionsForm();
  if (preset) {
    form.set(preset.options);
    form.element.open = true;
  }
  const problem = h("p", { class: "problem", id: "choose-problem", role: "alert" });
  const load = (name: string, model: Choice["model"], recommended?: OfferedModel["recommended"]) => {
    const read = form.read();
    if ("problem" in read) {
      problem.textContent = read.problem;
      return;
    }
    const budget = read.options.expertBudget ?? recommended?.expertBudget;
    const options = budget === undefined ? read.options : { ...read.options, expertBudget: budget };
    void host.load({ name, model, options, ...(recommended?.system === undefined ? {} : { system: recommended.system }) });
  };
  const loadFiles = (files: File[]) => {
    const picked = modelOfFiles(files);
    if ("problem" in picked) problem.textContent = picked.problem;
    else load(picked.name, picked.model);
  };

  const cached = h("section", { class: "cached", id: "cached-models", "aria-labelledby": "cached-heading", hidden: true });
  const offerList = h("ul", { class: "offers", id: "offered-models" });
  let offered: OfferedModel[] = [];
  const showCached = async () => {
    const models = await Moxel.cache.list().catch(() => []);
    if (signal.aborted) return;
    showOffers(models);
    cached.hidden = models.length === 0;
    fill(cached, h("h2", { id: "cached-heading" }, "In this browser"), await spaceLine(models), cachedList(models));
  };
  const showOffers = (models: CachedModel[]) => {
    fill(offerList, ...offered.map((model) => offerCard(model, models.find(({ url }) => sameModel(url, model.url)), () => load(model.name, model.url, model.recommended))));
  };
  const cachedList = (models: CachedModel[]) =>
    h(
      "ul",
      { class: "rows" },
      ...models.map((model) => {
        const offer = offered.find(({ url }) => sameModel(url, model.url));
        const name = offer?.name ?? nameOfUrl(model.url);
        const size = model.complete ? bytes(model.bytes) : `${bytes(model.bytes)} of ${bytes(model.totalBytes)}`;
        const remove = async () => {
          if (!(await confirmDialog(`Remove ${name} from this browser?`, "It is downloaded again when you next load it.", "Remove"))) return;
          await Moxel.cache.remove(model.url);
          await showCached();
        };
        return h(
          "li",
          { class: "row" },
          h("div", { class: "row-text" }, h("strong", {}, name), h("span", { class: "muted", title: model.url }, model.complete ? size : `${size}; the rest is fetched when it is needed`)),
          button(model.complete ? "Load" : "Resume", () => load(name, model.url, offer?.recommended)),
          iconButton("trash", `Remove ${name}`, () => void remove()),
        );
      }),
    );

  void offers.then((models) => {
    offered = models;
    showOffers([]);
    return showCached();
  });
  const element = h(
    "div",
    { class: "view chooser" },
    h(
      "header",
      { class: "hero" },
      viewHeading("Choose a model"),
      h("p", { class: "lead" }, "It is computed by your own GPU, in this browser. What you write stays on this device."),
    ),
    host.engine && loadedLine(host, host.choice?.name ?? host.engine.info.name),
    offerList,
    form.element,
    problem,
    urlForm((name, url) => load(name, url), problem),
    localFiles(loadFiles),
    cached,
  );
  dropTarget(element, loadFiles, signal);
  return element;
}

function loadedLine(host: EngineHost, name: string): HTMLElement {
  return h(
    "div",
    { class: "banner info", id: "loaded-model" },
    h("span", { class: "banner-text" }, `${name} is loaded. Another one takes its place.`),
    button("Unload", () => void host.unload()),
    h("a", { class: "button primary", href: "#/chat" }, "Chat"),
  );
}

function offerCard(model: OfferedModel, cached: CachedModel | undefined, onclick: () => void): HTMLElement {
  const state = cached?.complete ? "in this browser" : cached ? `${bytes(cached.bytes)} of ${bytes(model.bytes)} here` : bytes(model.bytes);
  const name = h("span", { class: "offer-name" }, model.name);
  return h(
    "li",
    {},
    h(
      "button",
      { type: "button", class: "offer", onclick, "data-model": model.id },
      h("span", { class: "offer-title" }, name, model.moe === true && h("span", { class: "badge" }, "experts")),
      model.description !== undefined && h("span", { class: "muted" }, model.description),
      h("span", { class: "offer-foot" }, icon(cached?.complete ? "check" : "download"), state),
    ),
  );
}

function urlForm(load: (name: string, url: string) => void, problem: HTMLElement): HTMLFormElement {
  const input = h("input", { id: "model-url", type: "text", inputmode: "url", placeholder: "https://…/model.gguf", spellcheck: "false", autocomplete: "off", autocapitalize: "off" });
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const parsed = parseUrl(input.value);
    if ("problem" in parsed) {
      problem.textContent = parsed.problem;
      input.focus();
    } else {
      load(nameOfUrl(parsed.url), parsed.url);
    }
  };
  return h(
    "form",
    { class: "url-form", onsubmit: submit },
    field("Model address", input, "Of a GGUF file, or of a folder with config.json in it, such as a hub's …/resolve/main/. Its server has to allow other sites."),
    button("Load", undefined, { type: "submit", id: "load-url" }),
  );
}

function localFiles(load: (files: File[]) => void): HTMLElement {
  const picker = (id: string, attributes: Record<string, string | boolean>) => {
    const input: HTMLInputElement = h("input", {
      id,
      type: "file",
      hidden: true,
      ...attributes,
      onchange: () => {
        if (input.files?.length) load([...input.files]);
        // The same file can be picked again after a fault.
        input.value = "";
      },
    });
    return input;
  };
  const file = picker("pick-file", { accept: ".gguf", multiple: true });
  const folder = picker("pick-folder", { webkitdirectory: true });
  return h(
    "div",
    { class: "local" },
    h("span", { class: "muted" }, "Or from this device; files can be dropped here too:"),
    h("div", { class: "buttons" }, button("Open a file", () => file.click(), { icon: "file", id: "open-file" }), button("Open a folder", () => folder.click(), { icon: "folder", id: "open-folder" })),
    file,
    folder,
  );
}

function dropTarget(element: HTMLElement, load: (files: File[]) => void, signal: AbortSignal): void {
  const over = (event: DragEvent) => {
    event.preventDefault();
    element.classList.add("dropping");
  };
  element.addEventListener("dragover", over, { signal });
  element.addEventListener("dragleave", () => element.classList.remove("dropping"), { signal });
  const drop = async (event: DragEvent) => {
    event.preventDefault();
    element.classList.remove("dropping");
    if (event.dataTransfer) load(await droppedFiles(event.dataTransfer));
  };
  element.addEventListener("drop", (event) => void drop(event), { signal });
}

async function spaceLine(models: CachedModel[]): Promise<HTMLElement> {
  const used = models.reduce((sum, model) => sum + model.bytes, 0);
  const space = await Moxel.cache.estimate().catch(() => undefined);
  return h("p", { class: "muted" }, space?.quota ? `${bytes(used)} of models; the browser allows ${bytes(space.quota)} for this page.` : `${bytes(used)} of models.`);
}

/** The same address, whether a folder's ends with a slash or not. */
function sameModel(a: string, b: string): boolean {
  return a.replace(/\/$/, "") === b.replace(/\/$/, "");
}
