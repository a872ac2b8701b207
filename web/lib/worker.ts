/** The worker's script: starts WebAssembly and answers the page. */

import init, { RawEngine } from "../pkg-raw/moxel_web.js";
import { MoxelError, toPlain } from "./errors.js";
import { Host, type Handlers } from "./host.js";
import type { FromWorker, ToWorker } from "./protocol.js";
import type { RawEngineClass } from "./raw.js";

const send = (message: FromWorker, transfer: Transferable[] = []) => self.postMessage(message, { transfer });

async function startEngine(): Promise<RawEngineClass> {
  const url = new URL("./moxel_bg.wasm", import.meta.url);
  try {
    await init({ module_or_path: url });
  } catch (error) {
    throw new MoxelError("worker", `the engine ${url.href} could not be started (${error instanceof Error ? error.message : error})`);
  }
  return RawEngine as unknown as RawEngineClass;
}

const host = new Host(startEngine, {
  progress: (progress) => send({ kind: "progress", progress }),
  event: (event) => send({ kind: "event", event }),
  token: (id, token, text) => send({ kind: "token", id, token, text }),
});

async function answer({ id, name, argument }: Extract<ToWorker, { kind: "call" }>): Promise<void> {
  try {
    const value = await (host as Handlers)[name](argument as never, id);
    send({ kind: "result", id, value }, buffersOf(value));
  } catch (error) {
    if (error instanceof WebAssembly.RuntimeError) send({ kind: "fatal", message: error.message });
    else send({ kind: "failure", id, error: toPlain(error) });
  }
}

/** Logits are moved, not copied. */
function buffersOf(value: unknown): Transferable[] {
  return Object.values(value ?? {}).flatMap((field) => (field instanceof Float32Array ? [field.buffer as ArrayBuffer] : []));
}

self.addEventListener("message", ({ data }: MessageEvent<ToWorker>) => {
  if (data.kind === "call") void answer(data);
  else host.interrupt(data.id);
});

// After a trap the engine's memory is in no known state, and what waited for it would wait for ever.
self.addEventListener("unhandledrejection", ({ reason }) => {
  if (reason instanceof WebAssembly.RuntimeError) send({ kind: "fatal", message: reason.message });
});

// The page asks for the same lock: it gets it when this worker is no more.
void navigator.locks?.request(self.name, () => {
  send({ kind: "alive" });
  return new Promise(() => undefined);
});
