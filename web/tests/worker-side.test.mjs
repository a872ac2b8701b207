// The worker's end, with an engine that is none: what it tells the page and the cache.

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { library } from "./harness/library.mjs";
import { content, FakeServer } from "./harness/fake-server.mjs";
import { freshOrigin } from "./harness/fake-storage.mjs";

const { Host } = await library("host.ts");

const PLACE = { kind: "web", url: "http://host/m.gguf", folder: "http://host/", query: "", entry: "m.gguf" };
const realFetch = globalThis.fetch;

let root, host, stats, adapters, hooks;
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
    async load(source, entry, options, given) {
      hooks = given;
      await navigator.gpu.requestAdapter();
      await source.read(entry, 0, 9000);
      return { info: () => ({ name: "m", adapter: { name: "" } }), stats: async () => ({ ...stats }), free() {} };
    },
  };
  host = new Host(async () => engine, { progress() {}, event() {}, token() {} });
});

const load = (cache = true) => host.load({ place: PLACE, cache, memoryBudget: 0 });

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

const kernelsFile = () => root.entries.get("moxel-cache")?.entries.get("kernels.json");

/** Keeps a choice and waits until it is written. */
async function keep(key, kernels) {
  hooks.keepKernels(key, kernels);
  for (let turn = 0; turn < 100; turn++) {
    const kept = (await kernelsFile()?.content.text()) ?? "";
    if (kept.startsWith("[{") && JSON.parse(kept).some((known) => known.for.endsWith(`\n${key}`) && known.kernels === kernels)) return;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  assert.fail(`${key} is not kept`);
}

test("kernels that were measured are known at the next visit, by the same browser", async () => {
  adapters = [adapters[0], adapters[0]];
  navigator.userAgent = "Browser 1";
  await load();
  assert.equal(await hooks.knownKernels("one"), undefined);
  await keep("one", "fast");
  await keep("two", "other");
  await keep("one", "faster");
  await load();
  assert.equal(await hooks.knownKernels("one"), "faster");
  assert.equal(await hooks.knownKernels("two"), "other");
  assert.equal(JSON.parse(await kernelsFile().content.text()).length, 2);
  navigator.userAgent = "Browser 2";
  assert.equal(await hooks.knownKernels("one"), undefined);
});

test("another adapter's kernels are not this one's", async () => {
  await load();
  await keep("one", "fast");
  await load();
  assert.equal(await hooks.knownKernels("one"), undefined, "the other adapter was asked");
  await keep("one", "other");
  assert.deepEqual(JSON.parse(await kernelsFile().content.text()).map(({ kernels }) => kernels), ["fast", "other"]);
});

test("the oldest choices of kernels go", async () => {
  adapters = [adapters[0], adapters[0]];
  await load();
  for (let i = 0; i < 60; i++) await keep(`key ${i}`, "fast");
  await load();
  assert.equal(await hooks.knownKernels("key 9"), undefined);
  assert.equal(await hooks.knownKernels("key 10"), "fast");
});

test("a damaged file of choices knows none, and is replaced", async () => {
  await load();
  await keep("one", "fast");
  for (const damaged of ["", "[", "{}", '[null, 1, {"for": "one"}]']) {
    kernelsFile().content = new Blob([damaged]);
    adapters = [{ info: { description: "other" } }];
    await load();
    assert.equal(await hooks.knownKernels("one"), undefined, damaged);
    await keep("one", "fast");
  }
});

test("without a cache kernels are known until the page is left", async () => {
  adapters = [adapters[0], adapters[0]];
  await load(false);
  hooks.keepKernels("one", "fast");
  assert.equal(await hooks.knownKernels("one"), "fast");
  await load(false);
  assert.equal(await hooks.knownKernels("one"), undefined);
  assert.equal(root.entries.size, 0);
});
