/** The GPU as browsers name it. */

/** As much of WebGPU as is asked here; the engine has bindings of its own. */
export interface Gpu {
  requestAdapter(options?: { powerPreference?: "low-power" | "high-performance" }): Promise<Adapter | null>;
}

export interface Adapter {
  info?: { vendor: string; architecture: string; device: string; description: string; isFallbackAdapter?: boolean };
}

/** What the browser tells about an adapter; empty if nothing. */
export function adapterName(adapter: Adapter | null): string {
  const { description = "", vendor = "", architecture = "" } = adapter?.info ?? {};
  return description || [vendor, architecture].filter(Boolean).join(" ");
}

/** Remembers which adapter the engine gets: its bindings do not tell the name, and asking again may bring another one. */
export class AdapterWatch {
  #last: Adapter | null = null;

  constructor(gpu: Gpu) {
    const request = gpu.requestAdapter.bind(gpu);
    gpu.requestAdapter = async (options) => {
      const adapter = await request(options);
      this.#last = adapter ?? this.#last;
      return adapter;
    };
  }

  get name(): string {
    return adapterName(this.#last);
  }

  /** All that tells it from others. */
  get identity(): string {
    const { vendor, architecture, device, description, isFallbackAdapter } = this.#last?.info ?? {};
    return JSON.stringify([vendor, architecture, device, description, isFallbackAdapter]);
  }
}
