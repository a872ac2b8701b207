/** Whether this browser can run models at all. */

/** As much of WebGPU as is asked here; the engine has bindings of its own. */
interface Gpu {
  requestAdapter(options?: { powerPreference: "high-performance" }): Promise<Adapter | null>;
}

interface Adapter {
  info?: { vendor: string; architecture: string; device: string; description: string };
}

export interface Support {
  supported: boolean;
  /** Why not, and what to do, in a sentence. */
  reason?: string;
  /** What the browser tells about its GPU. */
  adapter?: string;
}

export async function isSupported(): Promise<Support> {
  const no = (reason: string): Support => ({ supported: false, reason });
  if (!globalThis.isSecureContext) {
    return no("browsers offer WebGPU to safe pages only: serve this one by https, or from localhost");
  }
  if (typeof WebAssembly !== "object" || typeof Worker !== "function") return no("this browser has no WebAssembly or no workers");
  const { gpu } = navigator as { gpu?: Gpu };
  if (gpu === undefined) return no("this browser has no WebGPU: use a current Chrome, Edge, Firefox or Safari");
  let adapter: Adapter | null;
  try {
    adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  } catch (error) {
    return no(`this browser has WebGPU, but asking for a GPU failed (${error instanceof Error ? error.message : error})`);
  }
  if (adapter === null) {
    return no("this browser has WebGPU but no GPU for it: update the graphics driver, or switch on hardware acceleration");
  }
  const { description, vendor, architecture } = adapter.info ?? { description: "", vendor: "", architecture: "" };
  return { supported: true, adapter: description || [vendor, architecture].filter(Boolean).join(" ") || "a GPU" };
}
