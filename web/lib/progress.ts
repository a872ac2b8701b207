/** How fast loading goes, and how long it will take. */

import type { LoadProgress } from "./types.js";

/** Speed is that of the last so many milliseconds. */
const MEMORY = 5_000;
/** Before so many there is no telling. */
const LEAST = 500;

export class Meter {
  readonly #samples: { time: number; bytes: number }[] = [];

  /** Takes note of how much is loaded, and says how it goes. */
  measure(time: number, loadedBytes: number, totalBytes: number): Pick<LoadProgress, "bytesPerSecond" | "secondsLeft"> {
    const samples = this.#samples;
    samples.push({ time, bytes: loadedBytes });
    while (samples.length > 2 && (samples[1]?.time ?? time) <= time - MEMORY) samples.shift();
    const first = samples[0];
    if (first === undefined || time - first.time < LEAST) return {};
    const bytesPerSecond = (1000 * (loadedBytes - first.bytes)) / (time - first.time);
    const left = Math.max(0, totalBytes - loadedBytes);
    return bytesPerSecond > 0 && totalBytes > 0 ? { bytesPerSecond, secondsLeft: left / bytesPerSecond } : { bytesPerSecond };
  }
}
