// The one engine of the page: loading a model, what became of it, and its figures.

import { Moxel, type Engine, type EngineEvent, type ErrorCode, type LoadOptions, type LoadProgress, type ModelLocation, type Stats } from "../moxel.js";
import { Observable } from "../ui/observable.js";
import { failureOf, sentence, type Failure } from "./failure.js";

/** A model as the user chose it. */
export interface Choice {
  name: string;
  model: ModelLocation;
  /** The system prompt where the user has set none. */
  system?: string;
  options: Pick<LoadOptions, "expertBudget" | "context" | "precision" | "cache">;
}

export type HostState =
  | { kind: "empty" }
  | { kind: "loading"; choice: Choice; progress?: LoadProgress }
  | { kind: "ready"; choice: Choice; engine: Engine }
  | { kind: "failed"; choice: Choice; failure: Failure };

/** How often figures are asked for while an answer is written, and otherwise; milliseconds. */
const BUSY = 250;
const IDLE = 2000;

export class EngineHost {
  readonly state = new Observable<HostState>({ kind: "empty" });
  readonly stats = new Observable<Stats | undefined>(undefined);
  /** Set while the GPU is being recovered. */
  readonly recovering = new Observable<string | undefined>(undefined);
  /** Set when the disk cache is off, and why. */
  readonly cacheOff = new Observable<string | undefined>(undefined);
  /** The last request that failed and is made again; undefined when bytes come again. */
  readonly retry = new Observable<string | undefined>(undefined);
  /** What a token waits for. */
  readonly fetching = new Observable<{ experts: number; bytes: number } | undefined>(undefined);
  /** The plan for experts, in a sentence. */
  readonly plan = new Observable<string | undefined>(undefined);
  /** Whether an answer is being written. */
  busy = false;
  #abort: AbortController | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  get choice(): Choice | undefined {
    return this.state.value.kind === "empty" ? undefined : this.state.value.choice;
  }

  get engine(): Engine | undefined {
    return this.state.value.kind === "ready" ? this.state.value.engine : undefined;
  }

  /** Frees what is loaded and loads another; the state tells what comes of it. */
  async load(choice: Choice): Promise<void> {
    this.#abort?.abort();
    const abort = new AbortController();
    this.#abort = abort;
    const before = this.engine;
    this.#forget();
    this.cacheOff.value = undefined;
    this.state.value = { kind: "loading", choice };
    try {
      await before?.unload();
      const engine = await Moxel.load({
        model: choice.model,
        ...choice.options,
        signal: abort.signal,
        onProgress: (progress) => this.#progress(abort, choice, progress),
        onEvent: (event) => !abort.signal.aborted && this.#event(event),
      });
      if (abort.signal.aborted) return void engine.unload();
      this.retry.value = undefined;
      this.plan.value = engine.info.expertPlan;
      this.state.value = { kind: "ready", choice, engine };
      void this.#poll(engine);
      // Asked only now: a browser may put the question to the user, who has seen by now what it is about.
      if (choice.options.cache !== false) void Moxel.cache.persist().catch(() => false);
    } catch (error) {
      if (abort.signal.aborted) return;
      this.#fail(choice, failureOf(error));
    }
  }

  /** Ends loading; what was cached stays, so that the next attempt goes on from there. */
  cancel(): void {
    this.#abort?.abort();
    this.#forget();
    this.state.value = { kind: "empty" };
  }

  /** Loads the same model again, after it failed or to begin afresh. */
  reload(): void {
    if (this.choice) void this.load(this.choice);
  }

  /** Forgets a failure that was read. */
  dismiss(): void {
    if (this.state.value.kind === "failed") this.state.value = { kind: "empty" };
  }

  async unload(): Promise<void> {
    const { engine } = this;
    this.#abort?.abort();
    this.#forget();
    this.state.value = { kind: "empty" };
    await engine?.unload();
  }

  /** To be called with whatever a request threw: some errors end the engine. */
  notice(error: unknown): Failure {
    const failure = failureOf(error);
    const ending: ErrorCode[] = ["worker", "device-lost", "gpu"];
    if (ending.includes(failure.code) && this.state.value.kind === "ready") {
      const { choice, engine } = this.state.value;
      this.#fail(choice, failure);
      // It may have no worker any more: nothing is lost if this fails.
      engine.unload().catch(() => {});
    }
    return failure;
  }

  async setExpertBudget(budget: string): Promise<void> {
    const state = this.state.value;
    if (state.kind !== "ready") return;
    try {
      this.plan.value = await state.engine.setExpertBudget(budget);
      // A reload, wanted or after a fault, keeps what the user set.
      state.choice.options = { ...state.choice.options, expertBudget: budget };
    } catch (error) {
      this.plan.value = this.notice(error).message;
    }
  }

  #progress(abort: AbortController, choice: Choice, progress: LoadProgress): void {
    const { value: state } = this.state;
    if (abort.signal.aborted || state.kind !== "loading") return;
    // Progress is told by the clock too: the fault is over when bytes come again.
    if (progress.networkBytes !== state.progress?.networkBytes) this.retry.value = undefined;
    this.state.value = { kind: "loading", choice, progress };
  }

  #event(event: EngineEvent): void {
    switch (event.type) {
      case "device-lost":
        this.recovering.value = event.message;
        break;
      case "recovered":
        this.recovering.value = undefined;
        break;
      case "cache-off":
        this.cacheOff.value = sentence(event.message);
        break;
      case "retry":
        this.retry.value = sentence(event.message);
        break;
      case "fetching":
        this.retry.value = undefined;
        this.fetching.value = event.experts > 0 ? { experts: event.experts, bytes: event.bytes } : undefined;
        break;
      case "cache-repaired":
        break;
    }
  }

  #fail(choice: Choice, failure: Failure): void {
    this.#forget();
    this.state.value = { kind: "failed", choice, failure };
  }

  #forget(): void {
    clearTimeout(this.#timer);
    this.stats.value = undefined;
    this.recovering.value = undefined;
    this.retry.value = undefined;
    this.fetching.value = undefined;
    this.plan.value = undefined;
  }

  /** Asks for figures again and again while this engine is the one. */
  async #poll(engine: Engine): Promise<void> {
    try {
      const stats = await engine.stats();
      if (this.engine !== engine) return;
      this.stats.value = stats;
    } catch (error) {
      if (this.engine === engine) this.notice(error);
      return;
    }
    this.#timer = setTimeout(() => void this.#poll(engine), this.busy ? BUSY : IDLE);
  }
}
