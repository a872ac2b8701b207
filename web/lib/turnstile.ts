/** Lets requests through one at a time. */

import { aborted } from "./errors.js";

export class Turnstile {
  #last: Promise<unknown> = Promise.resolve();

  /**
   * Runs `work` when everything that came before has ended. If the signal is used before, `work` is never run; if it is
   * used later, the caller hears of it at once and `work` goes on until it has ended, with the turn still its own.
   */
  run<T>(work: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
    if (signal?.aborted) return Promise.reject(aborted(signal));
    const turn = this.#last.then(() => {
      if (signal?.aborted) throw aborted(signal);
      return work();
    });
    this.#last = turn.catch(() => undefined);
    return signal === undefined ? turn : untilAborted(turn, signal);
  }
}

/** Settles as `work` does, or rejects as soon as the signal is used. */
export function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const stop = () => reject(aborted(signal));
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", stop));
  });
}
