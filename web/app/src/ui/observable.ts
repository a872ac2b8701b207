/** A value that tells when it is set. */
export class Observable<T> {
  #value: T;
  readonly #listeners = new Set<(value: T) => void>();

  constructor(value: T) {
    this.#value = value;
  }

  get value(): T {
    return this.#value;
  }

  set value(value: T) {
    this.#value = value;
    for (const listener of [...this.#listeners]) listener(value);
  }

  /** Calls `listener` whenever the value is set, until the signal is aborted. */
  subscribe(listener: (value: T) => void, signal?: AbortSignal): void {
    if (signal?.aborted) return;
    this.#listeners.add(listener);
    signal?.addEventListener("abort", () => this.#listeners.delete(listener), { once: true });
  }

  /** The same, and calls it with the present value at once. */
  watch(listener: (value: T) => void, signal?: AbortSignal): void {
    this.subscribe(listener, signal);
    listener(this.#value);
  }
}
