/** The page's end of the worker: calls that are answered, streams of tokens, and notice of the worker's end. */

import { fromPlain, MoxelError } from "./errors.js";
import type { Calls, FromWorker, ToWorker } from "./protocol.js";
import type { EngineEvent, LoadProgress } from "./types.js";

interface Pending {
  resolve(value: unknown): void;
  reject(error: MoxelError): void;
  onToken?: (token: number, text: string) => void;
}

export interface ClientHooks {
  onProgress?: (progress: LoadProgress) => void;
  onEvent?: (event: EngineEvent) => void;
}

export class WorkerClient {
  readonly #worker: Worker;
  readonly #hooks: ClientHooks;
  readonly #pending = new Map<number, Pending>();
  readonly #watch = new AbortController();
  /** Held by the worker as long as it lives. */
  readonly #lock = `moxel-${crypto.randomUUID()}`;
  #lastId = 0;
  #ended: MoxelError | undefined;

  /** @throws MoxelError if the browser refuses to start a worker. */
  constructor(hooks: ClientHooks) {
    this.#hooks = hooks;
    try {
      this.#worker = startWorker(this.#lock);
    } catch (error) {
      const cause = `the worker could not be started (${causeOf(error)})`;
      throw new MoxelError("worker", `${cause}; the page must be served by https or from localhost, and allow workers`, { cause: error });
    }
    this.#worker.addEventListener("message", (event: MessageEvent<FromWorker>) => this.#receive(event.data));
    this.#worker.addEventListener("error", (event) => {
      event.preventDefault();
      this.#fail(event.message || "its script moxel-worker.js could not be loaded");
    });
    this.#worker.addEventListener("messageerror", () => this.#fail("it sent a message that cannot be read"));
  }

  /** Asks something of the worker. `onStart` is told the id, for {@link interrupt}. */
  call<Name extends keyof Calls>(
    name: Name,
    argument: Parameters<Calls[Name]>[0],
    stream?: { onStart(id: number): void; onToken(token: number, text: string): void },
  ): Promise<ReturnType<Calls[Name]>> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    const id = ++this.#lastId;
    stream?.onStart(id);
    return new Promise((resolve, reject) => {
      this.#pending.set(id, { resolve: resolve as (value: unknown) => void, reject, onToken: stream?.onToken });
      try {
        this.#post({ kind: "call", id, name, argument } as ToWorker);
      } catch (error) {
        this.#pending.delete(id);
        reject(new MoxelError("request", `what was asked for cannot be sent to the worker (${causeOf(error)})`, { cause: error }));
      }
    });
  }

  interrupt(id: number): void {
    if (this.#ended === undefined) this.#post({ kind: "interrupt", id });
  }

  /** Ends the worker at once; whatever is waited for, and is asked for later, fails with this error. */
  end(error: MoxelError): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    this.#watch.abort();
    this.#worker.terminate();
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }

  #fail(cause: string): void {
    this.end(new MoxelError("worker", `the worker ended unexpectedly (${cause}); load the model again`));
  }

  #post(message: ToWorker): void {
    this.#worker.postMessage(message);
  }

  #receive(message: FromWorker): void {
    switch (message.kind) {
      case "alive":
        return this.#watchLock();
      case "result":
        this.#pending.get(message.id)?.resolve(message.value);
        this.#pending.delete(message.id);
        return;
      case "failure":
        this.#pending.get(message.id)?.reject(fromPlain(message.error));
        this.#pending.delete(message.id);
        return;
      case "token":
        return this.#pending.get(message.id)?.onToken?.(message.token, message.text);
      case "progress":
        return this.#hooks.onProgress?.(message.progress);
      case "event":
        return this.#hooks.onEvent?.(message.event);
      case "fatal":
        return this.#fail(message.message);
    }
  }

  /** Browsers say nothing when a worker dies, but then its locks are free. */
  #watchLock(): void {
    navigator.locks
      .request(this.#lock, { signal: this.#watch.signal }, () => this.#fail("the browser ended it, perhaps for lack of memory"))
      .catch(() => undefined);
  }
}

function causeOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Where this script is. Bundlers must not take what it is used for as something to be bundled. */
const here = import.meta.url;

function startWorker(name: string): Worker {
  const { origin } = new URL(here);
  if (origin === location.origin || origin === "null") {
    // Bundlers look for exactly this expression.
    return new Worker(new URL("./moxel-worker.js", import.meta.url), { type: "module", name });
  }
  // A worker's script must be of the page's origin; a module may come from anywhere that allows it.
  const script = `import ${JSON.stringify(new URL("./moxel-worker.js", here).href)};`;
  const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const worker = new Worker(url, { type: "module", name });
  // Not sooner: the worker fetches its script on its own time.
  worker.addEventListener("message", () => URL.revokeObjectURL(url), { once: true });
  return worker;
}
