/** One request and its answer, given up when nothing comes for a while. */

import { Temporary } from "./patience.js";
import type { Bytes } from "./source.js";

/** Static servers of development answer anything with a page to whoever accepts everything. */
const ACCEPT = "application/octet-stream, application/json";

/** A request that got no answer at all: no connection, or an answer that another origin's page must not see. */
export class NoAnswer extends Error {}

export class Exchange {
  readonly response: Response;
  readonly #controller: AbortController;
  readonly #stall: number;

  private constructor(response: Response, controller: AbortController, stall: number) {
    this.response = response;
    this.#controller = controller;
    this.#stall = stall;
  }

  /** Sends a request and waits for the head of the answer. `range` is inclusive, as in the header. */
  static async open(url: string, method: "GET" | "HEAD", range: string | undefined, stall: number): Promise<Exchange> {
    const controller = new AbortController();
    const headers: Record<string, string> = { accept: ACCEPT };
    if (range !== undefined) headers["range"] = range;
    // What is fetched is kept by the disk tier; the browser's own cache would hold it twice.
    const request = fetch(url, { method, headers, cache: "no-store", signal: controller.signal });
    const response = await inTime(request, stall, controller, () => new NoAnswer(unreachable(url)));
    return new Exchange(response, controller, stall);
  }

  /** The body as it arrives. */
  async *chunks(): AsyncGenerator<Bytes> {
    const reader = this.response.body?.getReader();
    if (reader === undefined) return;
    try {
      for (;;) {
        const read = inTime(reader.read(), this.#stall, this.#controller, () => new Temporary("the connection was lost"));
        const { done, value } = await read;
        if (done) return;
        yield value;
      }
    } finally {
      this.cancel();
    }
  }

  /** Ends the answer if it has not ended. */
  cancel(): void {
    this.#controller.abort();
  }
}

async function inTime<T>(work: Promise<T>, stall: number, controller: AbortController, failed: () => Error): Promise<T> {
  let stalled = false;
  const timer = setTimeout(() => {
    stalled = true;
    controller.abort();
  }, stall);
  try {
    return await work;
  } catch {
    throw stalled ? new Temporary(`the server stalled for ${stall / 1000} seconds`) : failed();
  } finally {
    clearTimeout(timer);
  }
}

/** The browser tells a page nothing about the cause. */
function unreachable(url: string): string {
  if (globalThis.navigator?.onLine === false) return "the browser is offline";
  const own = (globalThis as { location?: { origin: string } }).location?.origin;
  const { origin } = new URL(url);
  if (own === origin || (own !== undefined && own === "null")) return "the server cannot be reached";
  return `the server cannot be reached, or it does not allow pages of ${own ?? "other origins"} to read from it (CORS)`;
}
