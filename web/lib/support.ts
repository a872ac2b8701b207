/** Whether this browser can run models at all. */

import { adapterName, type Adapter, type Gpu } from "./adapter.js";

/** Why a page that was loaded over plain http has no WebGPU. */
export const UNSAFE_PAGE = "browsers offer WebGPU to safe pages only: serve this one by https, or from localhost";

export interface Support {
  supported: boolean;
  /** Why not, and what to do, in a sentence. */
  reason?: string;
  /** What the browser tells about its GPU. */
  adapter?: string;
}

export async function isSupported(): Promise<Support> {
  const no = (reason: string): Support => ({ supported: false, reason });
  if (!globalThis.isSecureContext) return no(UNSAFE_PAGE);
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
  return { supported: true, adapter: adapterName(adapter) || "a GPU" };
}
