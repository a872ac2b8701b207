// What was fetched stays in the origin's private file system, and is used only where it is what the server has.

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { golden, start } from "./harness/world.mjs";
import { cut, without } from "./harness/faults.mjs";

const MODEL = "/models/goldens/maverick/";
const GGUF = "/models/goldens/llama_quants/model.gguf";

let world;
before(async () => {
  world = await start({ models: { goldens: golden("") } });
});
after(() => world?.close());
beforeEach(async () => {
  world.site.fault = () => false;
  const page = await world.page();
  await page.evaluate(() => Moxel.cache.clear());
  await page.close();
  world.site.log.length = 0;
});

/** Loads a model in a page of its own; hands out what it computes, its events and figures, or the error's code. */
async function visit(model, options = {}, prepare = undefined) {
  const page = await world.page();
  if (prepare) await page.evaluate(prepare);
  const seen = await page.evaluate(
    async ([model, options]) => {
      const events = [];
      try {
        const onEvent = (event) => events.push(event);
        // All of it: what the cache holds is compared with what there is.
        const engine = await Moxel.load({ model: new URL(model, document.baseURI), expertBudget: "100%", onEvent, ...options });
        const { logits } = await engine.logits([5, 9, 2, 7]);
        const stats = await engine.stats();
        await engine.unload();
        return { logits: [...logits], events, stats };
      } catch (error) {
        return { code: error.code, message: error.message, events };
      }
    },
    [model, options],
  );
  await page.close();
  return seen;
}

const bodies = () => world.site.weights().filter((answer) => answer.bytes > 0);

for (const model of [MODEL, GGUF]) {
  test(`a second visit fetches no weights: ${model}`, async () => {
    const first = await visit(model);
    assert.ok(bodies().length > 0);
    world.site.log.length = 0;
    const second = await visit(model);
    assert.deepEqual(second.logits, first.logits);
    assert.deepEqual(bodies(), [], "bytes were sent again");
    assert.equal(second.stats.read.network, 0);
    assert.ok(second.stats.read.disk > 0);
  });

  test(`it works without a network: ${model}`, async () => {
    const first = await visit(model);
    // An application brings its own service worker for itself; the models' server is gone.
    world.site.fault = cut({ after: 0 });
    const second = await visit(model);
    assert.deepEqual(second.logits, first.logits, second.message);
    assert.deepEqual(second.events, []);
  });
}

test("the cache lists what it holds, and forgets it", async () => {
  await visit(MODEL);
  const page = await world.page();
  const [before, after] = await page.evaluate(async () => {
    const before = await Moxel.cache.list();
    await Moxel.cache.remove(before[0].url);
    return [before, await Moxel.cache.list()];
  });
  assert.equal(before.length, 1);
  assert.equal(before[0].url, world.site.url + MODEL);
  assert.ok(before[0].complete);
  assert.ok(before[0].bytes > 500_000);
  assert.deepEqual(after, []);
  await page.close();
});

test("a block that was damaged is noticed and fetched again", async () => {
  const first = await visit(GGUF);
  const damage = async () => {
    // One byte in the middle of every stored block.
    async function* files(folder) {
      for await (const entry of folder.values()) {
        if (entry.kind === "directory") yield* files(entry);
        else yield entry;
      }
    }
    let damaged = 0;
    for await (const handle of files(await navigator.storage.getDirectory())) {
      const file = await handle.getFile();
      if (file.size < 65536) continue;
      const bytes = new Uint8Array(await file.arrayBuffer());
      bytes[bytes.length >> 1] ^= 1;
      const stream = await handle.createWritable();
      await stream.write(bytes);
      await stream.close();
      damaged += 1;
    }
    if (damaged === 0) throw new Error("there was nothing to damage");
  };
  world.site.log.length = 0;
  const second = await visit(GGUF, {}, damage);
  assert.deepEqual(second.logits, first.logits);
  assert.ok(second.events.some((event) => event.type === "cache-repaired"), JSON.stringify(second.events));
  assert.ok(bodies().length > 0);
});

test("a load that was cut off is completed, not begun again", async () => {
  const whole = await visit(GGUF, { cache: false });
  const size = whole.stats.read.network;
  world.site.log.length = 0;
  // Late enough for a first block to be whole.
  world.site.fault = cut({ after: Math.round(0.8 * size) });
  const broken = await visit(GGUF);
  assert.equal(broken.code, "read", JSON.stringify(broken));
  const sent = bodies().reduce((sum, answer) => sum + answer.bytes, 0);
  world.site.fault = () => false;
  world.site.log.length = 0;
  const completed = await visit(GGUF);
  assert.deepEqual(completed.logits, whole.logits);
  const again = bodies().reduce((sum, answer) => sum + answer.bytes, 0);
  assert.ok(again < size, `${again} of ${size} bytes were fetched after ${sent}`);
});

test("a block whose writing was cut off counts as missing", async () => {
  const whole = await visit(GGUF, { cache: false });
  world.site.fault = cut({ after: Math.round(0.8 * whole.stats.read.network) });
  await visit(GGUF);
  world.site.fault = () => false;
  const page = await world.page();
  const [before, after] = await page.evaluate(async () => {
    const [before] = await Moxel.cache.list();
    // What browsers leave of a file that a worker was writing when it ended.
    const folders = async (folder) => (await Array.fromAsync(folder.values())).filter(({ kind }) => kind === "directory");
    let folder = await navigator.storage.getDirectory();
    while ((await folders(folder)).length > 0) [folder] = await folders(folder);
    let block = 0;
    const names = await Array.fromAsync(folder.keys());
    while (names.includes(`${block}.block`)) block += 1;
    await folder.getFileHandle(`${block}.block`, { create: true });
    return [before, (await Moxel.cache.list())[0]];
  });
  await page.close();
  assert.ok(before.bytes > 0 && before.bytes < before.totalBytes, JSON.stringify(before));
  assert.deepEqual([after.bytes, after.complete], [before.bytes, false]);
  const completed = await visit(GGUF);
  assert.deepEqual(completed.logits, whole.logits);
  assert.deepEqual(completed.events, []);
});

test("a file that has changed on the server is fetched anew", async () => {
  await visit(GGUF);
  world.site.log.length = 0;
  world.site.fault = (request, response) => {
    const original = response.setHeader.bind(response);
    response.setHeader = (name, value) =>
      original(name, /^etag$/i.test(name) ? '"another"' : /^last-modified$/i.test(name) ? new Date().toUTCString() : value);
    return false;
  };
  const changed = await visit(GGUF);
  assert.ok(changed.logits, changed.message);
  assert.ok(bodies().some((answer) => answer.bytes > 100_000));
});

test("a server without ranges serves what fits", async () => {
  world.site.fault = without("range");
  const seen = await visit(GGUF);
  assert.ok(seen.logits, seen.message);
});

test("a full disk means going on without the cache, and saying so", async () => {
  // The quota of this origin, as the browser's own tools set it.
  const page = await world.page();
  const protocol = await world.context.newCDPSession(page);
  await protocol.send("Storage.overrideQuotaForOrigin", { origin: world.site.url, quotaSize: 300_000 });
  try {
    const seen = await visit(MODEL);
    assert.ok(seen.logits, seen.message);
    assert.ok(seen.events.some((event) => event.type === "cache-off"), JSON.stringify(seen.events));
  } finally {
    await protocol.send("Storage.overrideQuotaForOrigin", { origin: world.site.url });
    await page.close();
  }
});

test("two tabs share the cache", async () => {
  const [a, b] = await Promise.all([visit(MODEL), visit(MODEL)]);
  assert.deepEqual(a.logits, b.logits);
  world.site.log.length = 0;
  const third = await visit(MODEL);
  assert.deepEqual(third.logits, a.logits);
  assert.deepEqual(bodies(), []);
});
