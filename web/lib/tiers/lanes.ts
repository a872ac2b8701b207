/** A bound on what is under way at the same time. */

/** A few lanes: what somebody waits for goes before what is fetched ahead, and otherwise first come, first served. */
export class Lanes {
  #free: number;
  readonly #urgent: (() => void)[] = [];
  readonly #ahead: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  async run<T>(urgent: boolean, work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) {
      this.#free -= 1;
    } else {
      // The lane is handed over, so that nobody who comes in between takes it.
      await new Promise<void>((resolve) => (urgent ? this.#urgent : this.#ahead).push(resolve));
    }
    try {
      return await work();
    } finally {
      const next = this.#urgent.shift() ?? this.#ahead.shift();
      if (next === undefined) this.#free += 1;
      else next();
    }
  }
}
