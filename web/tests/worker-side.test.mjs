// The worker's end, with an engine that is none: what it tells the page and the cache.

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { library } from "./harness/library.mjs";
import { content, FakeServer } from "./harness/fake-server.mjs";
import { freshOrigin } from "./harness/fake-storage.mjs";

const { Host } = await library("host.ts");

const PLACE = { kind: "web", url: "http://host/m.gguf", folder: "http://host/", query: "", entry: "m.gguf" };
const realFetch = globalThis.fetch;

let root, host, stats, adapters;
before(() => {
  const server = new FakeServer();
  server.files["m.gguf"] = { bytes: content(9000), etag: '"one"' };
  globalThis.fetch = server.fetch;
});
after(() => (globalThis.fetch = realFetch));
beforeEach(async () => {
  root = freshOrigin();
  // A browser with two GPUs, which it hands out in turns.
  adapters = ["used", "other"].map((description) => ({ info: { description } }));
  navigator.gpu = { requestAdapter: async () => adapters.shift() ?? null };
  stats = { loaded: false, counters: {}, wasmBytes: 1, gpuBytes: 2 };
  const engine = {
    async load(source, entry) {
      await navigator.gpu.requestAdapter();
      await source.read(entry, 0, 9000);
      return { info: () => ({ name: "m", adapter: { name: "" } }), stats: async () => ({ ...stats }), free() {} };
    },
  };
  host = new Host(async () => engine, { progress() {}, event() {}, token() {} });
});

const load = () => host.load({ place: PLACE, cache: true, memoryBudget: 0 });

async function isNotedWhole() {
  const figures = await host.stats();
  assert.equal("loaded" in figures, false);
  await host.unload();
  const [folder] = [...root.entries.values()][0].entries.values();
  return JSON.parse(await folder.entries.get("model.json").content.text()).whole;
}

test("a model is whole when its engine has everything", async () => {
  await load();
  stats = { ...stats, loaded: true };
  assert.equal(await isNotedWhole(), true);
});

test("without an engine, or an expert, it is not known to be whole", async () => {
  await load();
  assert.equal(await isNotedWhole(), false);
  await load();
  stats = { ...stats, loaded: true, resident: [[1, 1], [1, 0]] };
  assert.equal(await isNotedWhole(), false);
});

test("the adapter's name is that of the one that the engine got", async () => {
  const { adapter } = await load();
  assert.equal(adapter.name, "used");
  assert.equal(adapters.length, 1, "nobody else asked");
});
