/** The package's entry: `import { Moxel } from "moxel"`. */

import { cache, pageUrl, type ModelCache } from "./cache.js";
import { WorkerClient } from "./client.js";
import { WorkerEngine } from "./engine.js";
import { aborted, MoxelError } from "./errors.js";
import { locate } from "./location.js";
import { isSupported, UNSAFE_PAGE, type Support } from "./support.js";
import type { Engine, LoadOptions } from "./types.js";
import { checkLoad } from "./validate.js";

export { MoxelError } from "./errors.js";
export type { ModelCache } from "./cache.js";
export type { Support } from "./support.js";
export type * from "./types.js";

const DEFAULT_MEMORY_BUDGET = 256 * 2 ** 20;

export class Moxel {
  /** Models that were fetched and are kept for the next visit. */
  static readonly cache: ModelCache = cache;

  /** Whether this browser can run models; never throws. */
  static isSupported(): Promise<Support> {
    return isSupported();
  }

  /**
   * Loads a model into a worker of its own.
   *
   * @throws MoxelError
   */
  static async load(options: LoadOptions): Promise<Engine> {
    checkLoad(options);
    const { model, signal, onProgress, onEvent, expertBudget, context, precision, kv } = options;
    const place = locate(model, pageUrl());
    if (signal?.aborted) throw aborted(signal);
    // Such pages lack more than WebGPU, and would fail with sentences that name something else.
    if (!globalThis.isSecureContext) throw new MoxelError("no-webgpu", UNSAFE_PAGE);
    const client = new WorkerClient({ onProgress, onEvent });
    const stop = () => client.end(aborted(signal as AbortSignal));
    signal?.addEventListener("abort", stop, { once: true });
    try {
      const info = await client.call("load", {
        place, expertBudget, context, precision, kv,
        cache: options.cache ?? true,
        memoryBudget: options.memoryBudget ?? DEFAULT_MEMORY_BUDGET,
      });
      // The signal may have been used since the answer came.
      if (signal?.aborted) throw aborted(signal);
      return new WorkerEngine(client, info);
    } catch (error) {
      client.end(error as Parameters<typeof client.end>[0]);
      throw error;
    } finally {
      signal?.removeEventListener("abort", stop);
    }
  }
}
