/** The memory tier: bytes of experts that do not all fit on the GPU. */

import { Recent } from "./recent.js";
import type { Bytes, ByteSource } from "./source.js";

export class MemoryTier implements ByteSource {
  readonly name: string;
  readonly local: boolean;
  readonly #inner: ByteSource;
  readonly #kept: Recent<string>;
  readonly #readFromMemory: (bytes: number) => void;
  /** While a model is being loaded, and where all of it is on the GPU, everything is read once and nothing is kept. */
  keeps = false;

  constructor(inner: ByteSource, budget: number, readFromMemory: (bytes: number) => void) {
    this.name = inner.name;
    this.local = inner.local;
    this.#inner = inner;
    this.#kept = new Recent(budget);
    this.#readFromMemory = readFromMemory;
  }

  get bytes(): number {
    return this.#kept.bytes;
  }

  size(file: string): Promise<number | undefined> {
    return this.#inner.size(file);
  }

  version(file: string): Promise<string | undefined> {
    return this.#inner.version(file);
  }

  async read(file: string, offset: number, length: number): Promise<Bytes> {
    if (!this.keeps) return this.#inner.read(file, offset, length);
    const key = `${offset} ${length} ${file}`;
    const kept = this.#kept.get(key);
    if (kept !== undefined) {
      this.#readFromMemory(length);
      return kept;
    }
    const bytes = await this.#inner.read(file, offset, length);
    this.#kept.put(key, bytes);
    return bytes;
  }
}
