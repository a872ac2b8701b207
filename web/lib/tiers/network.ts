/** The network tier: files of web servers, found and read by ranges. */

import { contentLength, contentRange, contradicts, isTemporary, matches, retryAfter, versionOf, type Version } from "./answer.js";
import { Exchange, NoAnswer } from "./exchange.js";
import { Lanes } from "./lanes.js";
import { DEFAULT_PATIENCE, patiently, Temporary, Unanswered, type Patience } from "./patience.js";
import { ReadError, type Bytes } from "./source.js";

/** Browsers make at most six connections to a server that speaks HTTP/1.1. */
const MOST_REQUESTS = 6;

/** A file of at most this size is taken as it comes where a server ignores ranges. */
const SMALL_FILE = 1 << 20;

/** What an attempt must bring to be none in vain. */
const PROGRESS = 64 << 10;

/** How often the server is asked where the cache could do without it. */
const IMPATIENT = { attempts: 1 };

const CHANGED = "it was changed on the server while it was being read";

/** Whoever counts and tells. */
export interface NetworkReport {
  received(bytes: number): void;
  answered(): void;
  retry(url: string, attempt: number, cause: string): void;
}

/** What is known of a file on a server. */
export interface FileHead {
  size: number;
  version: Version;
  /** Whether the server sends parts of it. */
  ranges: boolean;
}

/** A file as it was found, with the bytes that came along. */
export interface Found extends FileHead {
  first: Bytes;
}

export class Network {
  readonly #report: NetworkReport;
  readonly #patience: Patience;
  readonly #lanes = new Lanes(MOST_REQUESTS);
  /** Where the server sent us: going there directly saves a round trip for each read, and hubs limit how often they can be asked. */
  readonly #moved = new Map<string, string>();
  /** A server that never answered is rather a wrong address than a bad moment. */
  #wasReached = false;

  constructor(report: NetworkReport, patience: Patience = DEFAULT_PATIENCE) {
    this.#report = report;
    this.#patience = patience;
  }

  /**
   * Asks what there is, by asking for the first `taste` bytes: a request without a body would not show whether ranges
   * work. `undefined` if the server says that there is nothing.
   *
   * @throws Unanswered if the server says nothing of use; with `impatient` soon.
   */
  find(url: string, taste: number, impatient: boolean): Promise<Found | undefined> {
    return this.#patiently(url, impatient, true, async () => {
      const exchange = await this.#open(url, `bytes=0-${taste - 1}`);
      const { status, headers } = exchange.response;
      const version = versionOf(headers);
      // Files of models are no pages: this is what single-page apps answer where they have nothing.
      const isPage = headers.get("content-type")?.startsWith("text/html") ?? false;
      if (status === 404 || status === 410 || (isPage && exchange.response.ok)) {
        exchange.cancel();
        return undefined;
      }
      if (status === 206) {
        const first = await this.#body(exchange, taste);
        // A server of another origin may hide this header, and the length of an answer to HEAD cannot be hidden.
        const size = contentRange(headers)?.size ?? (await this.#sizeByHead(url));
        return { size, version, ranges: true, first };
      }
      if (status === 416 && contentRange(headers)?.size === 0) {
        exchange.cancel();
        return { size: 0, version, ranges: true, first: new Uint8Array() };
      }
      if (status !== 200) throw this.#refusal(exchange);
      const size = contentLength(headers);
      if (size !== undefined && size > SMALL_FILE) {
        exchange.cancel();
        return { size, version, ranges: false, first: new Uint8Array() };
      }
      const first = await this.#body(exchange, size ?? 256 * SMALL_FILE);
      return { size: first.length, version, ranges: false, first };
    });
  }

  /**
   * Whether a file is still the one that it was, asked without its bytes; not every server can tell.
   *
   * @throws Unanswered if the server says nothing of use; with `impatient` soon.
   */
  isSame(url: string, known: FileHead, impatient: boolean): Promise<boolean> {
    return this.#patiently(url, impatient, true, async () => {
      const exchange = await this.#exchange(url, "HEAD");
      exchange.cancel();
      const { status, headers } = exchange.response;
      if (isTemporary(status)) throw this.#refusal(exchange);
      return status === 200 && matches(known.version, versionOf(headers)) && (contentLength(headers) ?? known.size) === known.size;
    });
  }

  /** The bytes from `start` to `end`, from a server that sends ranges. A body that breaks off is asked for from there. */
  async fetch(url: string, head: FileHead, start: number, end: number, urgent: boolean): Promise<Bytes> {
    const bytes = new Uint8Array(end - start);
    let received = 0;
    await this.#patiently(url, false, urgent, async () => {
      const before = received;
      const from = start + received;
      const exchange = await this.#open(url, `bytes=${from}-${end - 1}`);
      this.#checkRange(exchange, head, from, end);
      await this.#receive(exchange, bytes.length - received, (chunk) => {
        bytes.set(chunk, received);
        received += chunk.length;
        return received - before;
      });
    });
    return bytes;
  }

  /** The whole file from its beginning; `take` gets each byte once, in order, and is waited for. */
  async stream(url: string, head: FileHead, take: (chunk: Bytes) => Promise<void> | void): Promise<void> {
    let received = 0;
    await this.#patiently(url, false, true, async () => {
      let at = 0;
      const before = received;
      const exchange = await this.#open(url, undefined);
      if (exchange.response.status !== 200) throw this.#refusal(exchange);
      this.#checkVersion(exchange, head);
      await this.#receive(exchange, head.size, async (chunk) => {
        const fresh = chunk.subarray(Math.min(chunk.length, Math.max(0, received - at)));
        at += chunk.length;
        if (fresh.length > 0) {
          received += fresh.length;
          await take(fresh);
        }
        return received - before;
      });
    });
  }

  /** Hands the body on in chunks; it must have `wanted` bytes. `take` returns what this attempt has brought. */
  async #receive(exchange: Exchange, wanted: number, take: (chunk: Bytes) => Promise<number> | number): Promise<void> {
    let left = wanted;
    let brought = 0;
    const broken = (cause: string) =>
      new Temporary(`${cause} after ${wanted - left} of ${wanted} bytes`, { progress: brought >= PROGRESS });
    try {
      for await (const chunk of exchange.chunks()) {
        this.#report.received(chunk.length);
        if (chunk.length > left) throw new ReadError("the server sent more bytes than it was asked for");
        left -= chunk.length;
        brought = await take(chunk);
      }
    } catch (error) {
      throw error instanceof Temporary ? broken(error.message) : error;
    }
    if (left > 0) throw broken("the connection was closed");
  }

  async #body(exchange: Exchange, most: number): Promise<Bytes> {
    const chunks: Bytes[] = [];
    let length = 0;
    for await (const chunk of exchange.chunks()) {
      this.#report.received(chunk.length);
      length += chunk.length;
      if (length > most) throw new ReadError("the server sent more bytes than it was asked for");
      chunks.push(chunk);
    }
    const expected = contentLength(exchange.response.headers);
    if (expected !== undefined && length < expected) throw new Temporary("the connection was closed");
    const bytes = new Uint8Array(length);
    let at = 0;
    for (const chunk of chunks) {
      bytes.set(chunk, at);
      at += chunk.length;
    }
    return bytes;
  }

  #checkRange(exchange: Exchange, head: FileHead, start: number, end: number): void {
    const { status, headers } = exchange.response;
    const fail = (cause: string) => {
      exchange.cancel();
      return new ReadError(cause);
    };
    if (status === 200 || status === 206) this.#checkVersion(exchange, head);
    if (status === 416) throw fail(`${CHANGED}: it no longer has bytes ${start}..${end}`);
    if (status === 200) throw fail("the server sent the whole file instead of a part, as it had done before");
    if (status !== 206) throw this.#refusal(exchange);
    const sent = contentRange(headers);
    if (sent?.size !== undefined && sent.size !== head.size) throw fail(CHANGED);
    if (sent !== undefined && (sent.start !== start || sent.end !== end)) {
      throw fail(`the server was asked for bytes ${start}..${end} and sent others`);
    }
  }

  #checkVersion(exchange: Exchange, head: FileHead): void {
    const { status, headers } = exchange.response;
    const length = status === 200 ? contentLength(headers) : undefined;
    if (contradicts(head.version, versionOf(headers)) || (length !== undefined && length !== head.size)) {
      exchange.cancel();
      throw new ReadError(CHANGED);
    }
  }

  async #sizeByHead(url: string): Promise<number> {
    const exchange = await this.#exchange(url, "HEAD");
    exchange.cancel();
    const size = contentLength(exchange.response.headers);
    if (size === undefined || !exchange.response.ok) {
      throw new ReadError("the server does not tell how large it is (let it expose the header Content-Range)");
    }
    return size;
  }

  #refusal(exchange: Exchange): Error {
    exchange.cancel();
    const { status, statusText, headers } = exchange.response;
    const cause = `the server answered ${status}${statusText === "" ? "" : ` (${statusText})`}`;
    return isTemporary(status) ? new Temporary(cause, { wait: retryAfter(headers) }) : new ReadError(cause);
  }

  /** Asks for a file, or bytes of it, where it was found last. */
  async #open(url: string, range: string | undefined): Promise<Exchange> {
    const moved = this.#moved.get(url);
    if (moved !== undefined) {
      // The place that one is sent to is often good for an hour only.
      this.#moved.delete(url);
      const exchange = await this.#exchange(moved, "GET", range);
      const { status } = exchange.response;
      if (status < 400 || status === 416 || isTemporary(status)) {
        this.#moved.set(url, moved);
        return exchange;
      }
      exchange.cancel();
    }
    const exchange = await this.#exchange(url, "GET", range);
    const { redirected, ok, url: end } = exchange.response;
    if (redirected && ok) this.#moved.set(url, end);
    return exchange;
  }

  async #exchange(url: string, method: "GET" | "HEAD", range?: string): Promise<Exchange> {
    try {
      const exchange = await Exchange.open(url, method, range, this.#patience.stall);
      this.#wasReached = true;
      this.#report.answered();
      return exchange;
    } catch (error) {
      if (!(error instanceof NoAnswer)) throw error;
      throw this.#wasReached ? new Temporary(error.message) : new Unanswered(error.message);
    }
  }

  #patiently<T>(url: string, impatient: boolean, urgent: boolean, attempt: () => Promise<T>): Promise<T> {
    const patience = impatient ? { ...this.#patience, ...IMPATIENT } : this.#patience;
    const inLane = () => this.#lanes.run(urgent, attempt);
    return patiently(patience, inLane, (count, cause) => this.#report.retry(url, count, cause));
  }
}
