// The page's end of the worker, with a worker that is none.

import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { library } from "./harness/library.mjs";
import { freshOrigin } from "./harness/fake-storage.mjs";

const { Moxel, WorkerClient } = await library("index.ts", "client.ts");

const INFO = { name: "m", adapter: { name: "the one that was used" } };

/** Answers every call with what `answers` has for it, or not at all. */
class FakeWorker extends EventTarget {
  static answers;
  static last;
  isTerminated = false;

  constructor() {
    super();
    FakeWorker.last = this;
  }

  postMessage(message) {
    const { id, name, argument } = structuredClone(message);
    const answer = FakeWorker.answers[name];
    if (answer === undefined) return;
    setTimeout(() => this.dispatchEvent(new MessageEvent("message", { data: { kind: "result", id, value: answer(argument) } })));
  }

  terminate() {
    this.isTerminated = true;
  }
}

const globals = ["Worker", "location", "isSecureContext"];
const real = globals.map((name) => Object.getOwnPropertyDescriptor(globalThis, name));
beforeEach(() => {
  freshOrigin();
  FakeWorker.answers = { load: () => INFO, logits: (ids) => ({ tokens: ids.length }) };
  Object.assign(globalThis, { Worker: FakeWorker, location: new URL("http://host/page"), isSecureContext: true });
});
after(() => {
  for (const [index, name] of globals.entries()) {
    if (real[index] === undefined) delete globalThis[name];
    else Object.defineProperty(globalThis, name, real[index]);
  }
});

test("what cannot be sent is an error of the request, and the next one goes well", async () => {
  const client = new WorkerClient({});
  await assert.rejects(client.call("logits", [() => 1]), (error) => error.code === "request" && /cannot be sent/.test(error.message));
  assert.deepEqual(await client.call("logits", [1, 2]), { tokens: 2 });
});

test("a model is loaded, under the name of the adapter that the worker tells", async () => {
  const { info } = await Moxel.load({ model: "m.gguf" });
  assert.deepEqual(info, INFO);
});

test("a page that is not safe is told so, whatever else it lacks", async () => {
  globalThis.isSecureContext = false;
  globalThis.Worker = undefined;
  await assert.rejects(Moxel.load({ model: "m.gguf" }), (error) => error.code === "no-webgpu" && /https, or from localhost/.test(error.message));
});

test("a browser that refuses the worker is an error that says so", async () => {
  globalThis.Worker = class {
    constructor() {
      throw new DOMException("Script cannot be accessed from origin 'null'", "SecurityError");
    }
  };
  await assert.rejects(Moxel.load({ model: "m.gguf" }), (error) => error.code === "worker" && /'null'.*served by https/.test(error.message));
});

test("a load that is aborted when it is as good as done fails, and its worker ends", async () => {
  for (const when of ["before the answer", "with the answer"]) {
    const abort = new AbortController();
    FakeWorker.answers.load = () => {
      if (when === "before the answer") abort.abort();
      else queueMicrotask(() => abort.abort());
      return INFO;
    };
    await assert.rejects(Moxel.load({ model: "m.gguf", signal: abort.signal }), { code: "aborted" }, when);
    assert.ok(FakeWorker.last.isTerminated);
  }
});
