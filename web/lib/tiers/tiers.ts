/** Puts the tiers together: memory before disk before network, or memory before picked files. */

import type { Place } from "../protocol.js";
import type { EngineEvent } from "../types.js";
import { BlockMemory } from "./block-file.js";
import { ModelFolder } from "./disk.js";
import { PickedFiles } from "./files.js";
import { MemoryTier } from "./memory.js";
import { Network } from "./network.js";
import type { ByteSource } from "./source.js";
import { Tally } from "./tally.js";
import { WebSource } from "./web-source.js";

export interface TierOptions {
  place: Place;
  cache: boolean;
  memoryBudget: number;
}

export class Tiers {
  readonly tally: Tally;
  readonly #memory: MemoryTier;
  readonly #blocks: BlockMemory;
  readonly #disk: ModelFolder | undefined;
  #noting: Promise<void> | undefined;

  private constructor(tally: Tally, memory: MemoryTier, blocks: BlockMemory, disk: ModelFolder | undefined) {
    this.tally = tally;
    this.#memory = memory;
    this.#blocks = blocks;
    this.#disk = disk;
  }

  static async open({ place, cache, memoryBudget }: TierOptions, tell: (event: EngineEvent) => void): Promise<Tiers> {
    const tally = new Tally();
    const { read } = tally;
    const blocks = new BlockMemory();
    let disk: ModelFolder | undefined;
    let inner: ByteSource;
    if (place.kind === "files") {
      inner = new PickedFiles(place.name, place.files, (bytes) => (read.file += bytes));
    } else {
      const network = new Network({
        received: (bytes) => (read.network += bytes),
        answered: () => (tally.requests += 1),
        retry: (url, attempt, message) => tell({ type: "retry", url: withoutQuery(url), attempt, message }),
      });
      if (cache) {
        disk = await ModelFolder.open(place.url, {
          read: (bytes) => (read.disk += bytes),
          spoilt: (file) => tell({ type: "cache-repaired", file }),
          off: (message) => tell({ type: "cache-off", message }),
        });
      }
      inner = new WebSource(place.folder, place.query, network, disk, blocks);
    }
    const memory = new MemoryTier(inner, memoryBudget, (bytes) => (read.memory += bytes));
    return new Tiers(tally, memory, blocks, disk);
  }

  /** What the engine reads through. */
  get source(): ByteSource {
    return this.#memory;
  }

  /** Bytes in JavaScript memory. */
  get memoryBytes(): number {
    return this.#memory.bytes + this.#blocks.recent.bytes + this.#blocks.held.bytes;
  }

  /** From now on the model is read from beginning to end. */
  beginLoading(): void {
    this.#memory.keeps = false;
    this.#blocks.beginLoading();
  }

  /** From now on experts are read here and there, if `streams`. */
  finishLoading(streams: boolean): void {
    this.#memory.keeps = streams;
    this.#blocks.finishLoading();
    this.#disk?.noteUse();
  }

  /** Everything there is to load is on the GPU. */
  noteWhole(): void {
    this.#blocks.held.clear();
    this.#noting = this.#disk?.noteWhole();
  }

  /** Waits until everything that was fetched and noted is written. */
  async close(): Promise<void> {
    await this.#noting;
    await this.#disk?.drain();
  }
}

/** A query may hold secrets. */
function withoutQuery(url: string): string {
  return url.replace(/[?#].*$/, "");
}
