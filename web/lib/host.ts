/** The worker's side of the calls: the engine and the tiers that it reads through. */

import { AdapterWatch, type Gpu } from "./adapter.js";
import { MoxelError } from "./errors.js";
import { KnownKernels } from "./known-kernels.js";
import { Meter } from "./progress.js";
import type { Calls, Generated, GenerateRequest, LoadRequest } from "./protocol.js";
import type { RawEngine, RawEngineClass, RawHooks, RawStats } from "./raw.js";
import { Tiers } from "./tiers/tiers.js";
import type { EngineEvent, ExpertBudget, LoadProgress, Logits, Message, ModelInfo, Stats } from "./types.js";

/** Milliseconds between two looks at what a page is told as it happens. */
const PROGRESS_EVERY = 100;
const FETCHING_EVERY = 150;

/** What the page is told outside of answers. */
export interface HostHooks {
  progress(progress: LoadProgress): void;
  event(event: EngineEvent): void;
  token(id: number, token: number, text: string): void;
}

/** The calls, with promises; `id` is that of the call. */
export type Handlers = {
  [Name in keyof Calls]: (
    argument: Parameters<Calls[Name]>[0],
    id: number,
  ) => ReturnType<Calls[Name]> | Promise<ReturnType<Calls[Name]>>;
};

export class Host implements Handlers {
  readonly #engineClass: () => Promise<RawEngineClass>;
  readonly #hooks: HostHooks;
  #loaded: { raw: RawEngine; tiers: Tiers } | undefined;
  #generating: number | undefined;

  /** `engineClass` starts WebAssembly. */
  constructor(engineClass: () => Promise<RawEngineClass>, hooks: HostHooks) {
    this.#engineClass = engineClass;
    this.#hooks = hooks;
  }

  async load(request: LoadRequest): Promise<ModelInfo> {
    if (!("gpu" in navigator)) {
      throw new MoxelError("no-webgpu", "this browser has no WebGPU here: use a current Chrome, Edge, Firefox or Safari, and https or localhost");
    }
    const watch = new AdapterWatch((navigator as { gpu: Gpu }).gpu);
    const tiers = await Tiers.open(request, (event) => this.#tell(event));
    const shown = new ProgressShown(tiers, this.#hooks);
    let raw: RawEngine;
    try {
      const { context, precision, kv } = request;
      const options = { expertBudget: budgetText(request.expertBudget), context, precision, kv };
      const known = new KnownKernels(() => watch.identity, request.cache);
      const hooks: RawHooks = {
        progress: (loaded, total, phase) => shown.update(phase, loaded, total),
        event: (event) => this.#tell(event),
        knownKernels: (key) => known.find(key),
        keepKernels: (key, kernels) => void known.save(key, kernels),
      };
      raw = await (await this.#engineClass()).load(tiers.source, request.place.entry, options, hooks);
    } finally {
      shown.stop();
    }
    this.#loaded = { raw, tiers };
    // Now: there is nothing to tell of an engine whose device is lost a moment later.
    const info = raw.info();
    await this.#loadingEnded();
    shown.finish();
    return { ...info, adapter: { ...info.adapter, name: info.adapter.name || watch.name } };
  }

  async generate(request: GenerateRequest, id: number): Promise<Generated> {
    const { raw } = this.#engine();
    const begin = performance.now();
    let first: number | undefined;
    let last = begin;
    this.#generating = id;
    const stopWatching = this.#watchFetching(raw);
    try {
      const outcome = await raw.generate(request, (token, text) => {
        last = performance.now();
        first ??= last;
        this.#hooks.token(id, token, text);
      });
      const prompt_seconds = ((first ?? performance.now()) - begin) / 1000;
      return { ...outcome, prompt_seconds, completion_seconds: (last - (first ?? last)) / 1000 };
    } finally {
      stopWatching();
      this.#generating = undefined;
    }
  }

  /** Ends the generation of this id after its current token, if it is the one being computed. */
  interrupt(id: number): void {
    if (id === this.#generating) this.#loaded?.raw.interrupt();
  }

  logits(ids: number[]): Promise<Logits> {
    return this.#engine().raw.logits(Uint32Array.from(ids));
  }

  tokenize(text: string): number[] {
    return Array.from(this.#engine().raw.tokenize(text));
  }

  detokenize(ids: number[]): string {
    return this.#engine().raw.detokenize(Uint32Array.from(ids));
  }

  chatPrompt(messages: Message[]): number[] {
    return Array.from(this.#engine().raw.chatPrompt(messages));
  }

  async stats(): Promise<Stats> {
    const { raw, tiers } = this.#engine();
    const { read, requests } = tiers.tally;
    const { loaded: _loaded, ...figures } = await this.#figures(raw, tiers);
    return { ...figures, read: { ...read }, requests, memoryBytes: tiers.memoryBytes };
  }

  async setExpertBudget(budget: ExpertBudget): Promise<string> {
    const { raw, tiers } = this.#engine();
    tiers.beginLoading();
    try {
      return await raw.setExpertBudget(budgetText(budget) ?? "auto");
    } finally {
      await this.#loadingEnded();
    }
  }

  async unload(): Promise<void> {
    const { raw, tiers } = this.#engine();
    await this.#figures(raw, tiers);
    await tiers.close();
    raw.free();
    this.#loaded = undefined;
  }

  #engine(): { raw: RawEngine; tiers: Tiers } {
    if (this.#loaded === undefined) throw new MoxelError("unloaded", "no model is loaded");
    return this.#loaded;
  }

  /** After a lost device everything is read once more, as when the model was loaded. */
  #tell(event: EngineEvent): void {
    if (event.type === "device-lost") this.#loaded?.tiers.beginLoading();
    if (event.type === "recovered") void this.#loadingEnded();
    this.#hooks.event(event);
  }

  async #loadingEnded(): Promise<void> {
    if (this.#loaded === undefined) return;
    const { raw, tiers } = this.#loaded;
    const { experts } = await this.#figures(raw, tiers);
    tiers.finishLoading(experts !== undefined && experts.slots < experts.experts);
  }

  /** The engine may load experts in its spare time: whenever somebody looks, the cache is told if it has got them all. */
  async #figures(raw: RawEngine, tiers: Tiers): Promise<RawStats> {
    const stats = await raw.stats();
    const isMissing = stats.resident?.some((layer) => layer.some((isThere) => isThere !== 1)) ?? false;
    if (stats.loaded && !isMissing) tiers.noteWhole();
    return stats;
  }

  /** Tells of experts that a token waits for, and when it goes on. */
  #watchFetching(raw: RawEngine): () => void {
    let wasFetching = false;
    const look = () => {
      const now = raw.fetching();
      if (now !== undefined) this.#hooks.event({ type: "fetching", experts: now.experts, bytes: now.bytes });
      else if (wasFetching) this.#hooks.event({ type: "fetching", experts: 0, bytes: 0 });
      wasFetching = now !== undefined;
    };
    const timer = setInterval(look, FETCHING_EVERY);
    return () => {
      clearInterval(timer);
      if (wasFetching) this.#hooks.event({ type: "fetching", experts: 0, bytes: 0 });
    };
  }
}

/** Tells the page how loading goes, ten times a second: bytes arrive also while the engine has nothing to report. */
class ProgressShown {
  readonly #tiers: Tiers;
  readonly #hooks: HostHooks;
  readonly #meter = new Meter();
  readonly #timer: ReturnType<typeof setInterval>;
  #isOver = false;
  #now: Pick<LoadProgress, "phase" | "loadedBytes" | "totalBytes"> = { phase: "open", loadedBytes: 0, totalBytes: 0 };

  constructor(tiers: Tiers, hooks: HostHooks) {
    this.#tiers = tiers;
    this.#hooks = hooks;
    this.#timer = setInterval(() => this.#show(), PROGRESS_EVERY);
  }

  update(phase: LoadProgress["phase"], loadedBytes: number, totalBytes: number): void {
    // The engine tells of loading also after a lost device or for another budget, of which the page hears in other ways.
    if (this.#isOver) return;
    const isNews = phase !== this.#now.phase;
    this.#now = { phase, loadedBytes, totalBytes };
    if (isNews) this.#show();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#isOver = true;
  }

  finish(): void {
    this.#now = { ...this.#now, phase: "ready" };
    this.#show();
  }

  #show(): void {
    const { loadedBytes, totalBytes } = this.#now;
    const { network, disk } = this.#tiers.tally.read;
    const speed = this.#meter.measure(performance.now(), loadedBytes, totalBytes);
    this.#hooks.progress({ ...this.#now, networkBytes: network, diskBytes: disk, ...speed });
  }
}

/** The engine reads budgets as the command line does; bytes are a size without a unit. */
function budgetText(budget: ExpertBudget | undefined): string | undefined {
  return budget === undefined ? undefined : String(budget);
}
