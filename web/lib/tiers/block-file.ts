/** One file of a server in blocks: from memory, from the disk, on their way, or to be fetched. */

import { Blocks, type Run } from "./blocks.js";
import type { DiskFile } from "./disk.js";
import type { FileHead, Network } from "./network.js";
import { ReadAhead } from "./read-ahead.js";
import { Recent } from "./recent.js";
import { pastTheEnd, ReadError, type Bytes } from "./source.js";

/** Blocks that were fetched ahead and not read yet are in here. */
const RECENT_WHILE_LOADING = 48 << 20;
const RECENT_AFTERWARDS = 8 << 20;

/** Files of servers without ranges that no disk takes are held in memory, all together up to so much. */
const MOST_HELD = 1 << 30;

/** What the files of a model share. */
export class BlockMemory {
  readonly recent = new Recent<string>(RECENT_WHILE_LOADING);
  readonly held = new Recent<string>(MOST_HELD);
  #isLoading = true;

  /** Whether reads are likely to go on where they are. */
  get isLoading(): boolean {
    return this.#isLoading;
  }

  /** A model is read from beginning to end, as it is at first. */
  beginLoading(): void {
    this.#isLoading = true;
    this.recent.setLimit(RECENT_WHILE_LOADING);
  }

  /** Loading has ended; if something is read now, it is an expert here and there. */
  finishLoading(): void {
    this.#isLoading = false;
    this.recent.setLimit(RECENT_AFTERWARDS);
  }
}

export class BlockFile {
  readonly head: FileHead;
  readonly #url: string;
  readonly #blocks: Blocks;
  readonly #network: Network;
  readonly #disk: DiskFile | undefined;
  readonly #memory: BlockMemory;
  readonly #arriving = new Map<number, Promise<Bytes>>();
  readonly #ahead = new ReadAhead();

  constructor(url: string, head: FileHead, blocks: Blocks, network: Network, disk: DiskFile | undefined, memory: BlockMemory) {
    this.#url = url;
    this.head = head;
    this.#blocks = blocks;
    this.#network = network;
    this.#disk = disk;
    this.#memory = memory;
  }

  /** Takes the beginning of the file, which came along when it was looked for. */
  async acceptFirst(bytes: Bytes): Promise<void> {
    for (let block = 0; block < this.#blocks.count && this.#blocks.startOf(block + 1) <= bytes.length; block += 1) {
      const part = bytes.subarray(this.#blocks.startOf(block), this.#blocks.startOf(block + 1));
      if (this.head.ranges) void this.#keep(block, part);
      else await this.#keepForGood(block, part);
    }
  }

  async read(offset: number, length: number): Promise<Bytes> {
    const { size } = this.head;
    if (offset + length > size) throw pastTheEnd(offset, length, size);
    const run = this.#blocks.covering(offset, length);
    this.#fetchMissing(run, true);
    if (this.#memory.isLoading) {
      const ahead = this.#ahead.next(offset, length, size);
      this.#fetchMissing(this.#blocks.covering(ahead.offset, ahead.length), false);
    }
    const result = new Uint8Array(length);
    const copies: Promise<void>[] = [];
    for (let block = run.start; block < run.end; block += 1) {
      copies.push(this.#copy(block, result, offset));
    }
    await Promise.all(copies);
    await this.#disk?.room();
    return result;
  }

  /** Copies what lies in both the block and the bytes from `offset` on. */
  async #copy(block: number, result: Bytes, offset: number): Promise<void> {
    const bytes = await this.#block(block);
    const start = this.#blocks.startOf(block);
    const skipped = Math.max(0, offset - start);
    const wanted = bytes.subarray(skipped, Math.min(bytes.length, offset + result.length - start));
    result.set(wanted, start + skipped - offset);
  }

  async #block(block: number): Promise<Bytes> {
    const length = this.#blocks.lengthOf(block);
    const here = this.#inMemory(block) ?? this.#arriving.get(block) ?? (await this.#fromDisk(block, length));
    if (here !== undefined) return here;
    // It was on the disk and is spoilt, or it has left the memory since.
    this.#fetchMissing({ start: block, end: block + 1 }, true);
    const arriving = this.#inMemory(block) ?? this.#arriving.get(block);
    if (arriving === undefined) throw new ReadError(`bytes from ${this.#blocks.startOf(block)} on could not be had`);
    return arriving;
  }

  /** Small tensors share a block, which is read once for all of them. */
  async #fromDisk(block: number, length: number): Promise<Bytes | undefined> {
    const bytes = await this.#disk?.load(block, length);
    if (bytes !== undefined) this.#memory.recent.put(this.#key(block), bytes);
    return bytes;
  }

  #key(block: number): string {
    return `${block} ${this.#url}`;
  }

  #inMemory(block: number): Bytes | undefined {
    return this.#memory.recent.get(this.#key(block)) ?? this.#memory.held.get(this.#key(block));
  }

  #isMissing(block: number): boolean {
    return !(this.#arriving.has(block) || this.#disk?.has(block) || this.#inMemory(block) !== undefined);
  }

  /** Sets on their way what is in no tier. */
  #fetchMissing(run: Run, urgent: boolean): void {
    for (const missing of this.#blocks.missing(run, (block) => this.#isMissing(block))) {
      if (this.head.ranges) this.#fetchRun(missing, urgent);
      else return this.#fetchWhole();
    }
  }

  #fetchRun(run: Run, urgent: boolean): void {
    const start = this.#blocks.startOf(run.start);
    const fetched = this.#network.fetch(this.#url, this.head, start, this.#blocks.startOf(run.end), urgent);
    for (let block = run.start; block < run.end; block += 1) {
      const from = this.#blocks.startOf(block) - start;
      const part = fetched.then((bytes) => {
        const part = bytes.subarray(from, from + this.#blocks.lengthOf(block));
        void this.#keep(block, part);
        return part;
      });
      this.#arrive(block, part);
    }
  }

  #arrive(block: number, bytes: Promise<Bytes>): void {
    this.#arriving.set(block, bytes);
    const arrived = () => this.#arriving.delete(block);
    // A failure is told to whoever waits; what was fetched ahead is asked for again when it is needed.
    bytes.then(arrived, arrived);
  }

  async #keep(block: number, bytes: Bytes): Promise<boolean> {
    this.#memory.recent.put(this.#key(block), bytes);
    return (await this.#disk?.save(block, bytes)) ?? false;
  }

  /** Keeps what cannot be fetched again without everything else. */
  async #keepForGood(block: number, bytes: Bytes): Promise<void> {
    if (await this.#keep(block, bytes)) return;
    const { held } = this.#memory;
    if (held.bytes + bytes.length > MOST_HELD) throw tooLarge(this.head.size);
    held.put(this.#key(block), bytes);
  }

  /** Streams the whole file of a server without ranges through. */
  #fetchWhole(): void {
    if (this.#disk === undefined && this.#memory.held.bytes + this.head.size > MOST_HELD) throw tooLarge(this.head.size);
    const waiting = new Map<number, PromiseWithResolvers<Bytes>>();
    for (let block = 0; block < this.#blocks.count; block += 1) {
      if (!this.#isMissing(block)) continue;
      const promise = withResolvers<Bytes>();
      waiting.set(block, promise);
      this.#arrive(block, promise.promise);
    }
    const cutter = new Cutter(this.#blocks, async (block, bytes) => {
      const waiter = waiting.get(block);
      if (waiter === undefined) return;
      await this.#keepForGood(block, bytes);
      waiter.resolve(bytes);
    });
    this.#network.stream(this.#url, this.head, (chunk) => cutter.take(chunk)).catch((error: unknown) => {
      for (const waiter of waiting.values()) waiter.reject(error);
    });
  }
}

/** Cuts a stream of bytes into blocks. */
class Cutter {
  readonly #blocks: Blocks;
  readonly #finished: (block: number, bytes: Bytes) => Promise<void>;
  #block = 0;
  #bytes: Bytes;
  #filled = 0;

  constructor(blocks: Blocks, finished: (block: number, bytes: Bytes) => Promise<void>) {
    this.#blocks = blocks;
    this.#finished = finished;
    this.#bytes = new Uint8Array(blocks.lengthOf(0));
  }

  async take(chunk: Bytes): Promise<void> {
    let rest = chunk;
    while (rest.length > 0) {
      const part = rest.subarray(0, this.#bytes.length - this.#filled);
      this.#bytes.set(part, this.#filled);
      this.#filled += part.length;
      rest = rest.subarray(part.length);
      if (this.#filled < this.#bytes.length) return;
      await this.#finished(this.#block, this.#bytes);
      this.#block += 1;
      this.#bytes = new Uint8Array(this.#blocks.lengthOf(this.#block));
      this.#filled = 0;
    }
  }
}

/** As `Promise.withResolvers`, which browsers of 2023 do not have. */
function withResolvers<T>(): PromiseWithResolvers<T> {
  let resolve!: (value: T | PromiseLike<T>) => void;
  let reject!: (reason: unknown) => void;
  const promise = new Promise<T>((yes, no) => ([resolve, reject] = [yes, no]));
  return { promise, resolve, reject };
}

interface PromiseWithResolvers<T> {
  promise: Promise<T>;
  resolve(value: T | PromiseLike<T>): void;
  reject(reason: unknown): void;
}

function tooLarge(size: number): ReadError {
  const gigabytes = (size / 1e9).toFixed(1);
  return new ReadError(
    `the server sends whole files only, and ${gigabytes} GB cannot be kept here: ` +
      "use a server that answers range requests (HTTP 206), or download the model and pick its files",
  );
}
