/** Memory of bounded size for what was used lately. */

import type { Bytes } from "./source.js";

/** Keeps the entries that were used last, up to a number of bytes. */
export class Recent<Key> {
  readonly #entries = new Map<Key, Bytes>();
  #limit: number;
  #bytes = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get(key: Key): Bytes | undefined {
    const bytes = this.#entries.get(key);
    if (bytes !== undefined) {
      // A Map remembers the order of insertion: the first key is the one that was not used for longest.
      this.#entries.delete(key);
      this.#entries.set(key, bytes);
    }
    return bytes;
  }

  put(key: Key, bytes: Bytes): void {
    this.delete(key);
    if (bytes.length > this.#limit) return;
    this.#entries.set(key, bytes);
    this.#bytes += bytes.length;
    this.#shrink();
  }

  delete(key: Key): void {
    this.#bytes -= this.#entries.get(key)?.length ?? 0;
    this.#entries.delete(key);
  }

  clear(): void {
    this.#entries.clear();
    this.#bytes = 0;
  }

  setLimit(limit: number): void {
    this.#limit = limit;
    this.#shrink();
  }

  #shrink(): void {
    for (const [key, bytes] of this.#entries) {
      if (this.#bytes <= this.#limit) return;
      this.#entries.delete(key);
      this.#bytes -= bytes.length;
    }
  }
}
