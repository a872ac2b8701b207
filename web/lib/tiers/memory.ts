/** The memory tier: experts' bytes that were needed again. */

import { Recent } from "./recent.js";
import type { Bytes, ByteSource } from "./source.js";

export class MemoryTier implements ByteSource {
  readonly name: string;
  readonly local: boolean;
  readonly #inner: ByteSource;
  readonly #kept: Recent<string>;
  /** Ranges that were read once. */
  readonly #seen = new Set<string>();
  readonly #readFromMemory: (bytes: number) => void;
  /** While a model is being loaded everything is read once, and nothing is worth keeping. */
  loading = true;
  /**
   * Keep a range when it is read for the second time. The first time it goes to the GPU and may stay there; only where
   * reading again would mean fetching again it is kept at once.
   */
  keepAtOnce = false;

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
    if (this.loading) return this.#inner.read(file, offset, length);
    const key = `${offset} ${length} ${file}`;
    const kept = this.#kept.get(key);
    if (kept !== undefined) {
      this.#readFromMemory(length);
      return kept;
    }
    const bytes = await this.#inner.read(file, offset, length);
    if (this.keepAtOnce || this.#seen.has(key)) this.#kept.put(key, bytes);
    this.#seen.add(key);
    return bytes;
  }
}
