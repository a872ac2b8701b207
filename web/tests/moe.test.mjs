// A mixture of experts that is larger than what the GPU is given, in a browser tab.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { moe } from "./harness/native.mjs";
import { spoken } from "./harness/spoken.mjs";
import { start } from "./harness/world.mjs";

const TINY = "/models/tiny/";

let world, folder;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "moxel-tiny-"));
  world = await start({ models: { tiny: await spoken("maverick", folder), "demo-moe": moe } });
});
after(async () => {
  await world?.close();
  await rm(folder, { recursive: true, force: true });
});

/** Loads a model at a budget, generates, and hands out tokens and figures. */
async function generate(page, model, options, prompt, count) {
  return page.evaluate(
    async ([model, options, prompt, count]) => {
      const engine = await Moxel.load({ model: new URL(model, document.baseURI), cache: false, ...options });
      const loaded = await engine.stats();
      const completion = await engine.completions.create({ prompt, max_tokens: count });
      const stats = await engine.stats();
      const plan = engine.info.expertPlan;
      await engine.unload();
      return { ids: completion.choices[0].token_ids, stats, loaded, plan };
    },
    [model, options, prompt, count],
  );
}

test("a golden gives the same tokens at every budget", async () => {
  const page = await world.page();
  const prompt = Array.from({ length: 40 }, (_, i) => (i * 37) % 200);
  const full = await generate(page, TINY, { expertBudget: "100%" }, prompt, 24);
  assert.equal(full.stats.experts.misses, 0);
  for (const expertBudget of ["50%", "25%", "1%"]) {
    const some = await generate(page, TINY, { expertBudget }, prompt, 24);
    assert.deepEqual(some.ids, full.ids, expertBudget);
    assert.ok(some.stats.experts.misses > 0, `${expertBudget}: nothing was missed, so nothing was shown`);
    assert.ok(some.stats.experts.slots < full.stats.experts.slots);
  }
  await page.close();
});

test("the demo mixture gives the same tokens at a quarter of its experts, and its figures are the server's", async () => {
  const page = await world.page();
  const prompt = "The capital of France is";
  const options = { precision: "exact", context: 256 };
  const full = await generate(page, "/models/demo-moe/", { ...options, expertBudget: "100%" }, prompt, 12);
  world.site.log.length = 0;
  const some = await generate(page, "/models/demo-moe/", { ...options, expertBudget: "25%", memoryBudget: 0 }, prompt, 12);
  assert.deepEqual(some.ids, full.ids);
  const { experts, read } = some.stats;
  assert.equal(experts.slots, 30);
  assert.ok(experts.misses > 0);
  const sent = world.site.weights().reduce((sum, answer) => sum + answer.bytes, 0);
  assert.equal(read.network, sent, "bytes that the engine counted and the server sent");
  assert.equal(some.stats.requests, world.site.weights().length, "requests");
  const fetched = some.stats.read.network - some.loaded.read.network;
  const moved = experts.demand_bytes + experts.prefill.bytes + experts.speculative_useful_bytes + experts.speculative_wasted_bytes;
  assert.ok(fetched >= moved * 0.9, `${fetched} bytes fetched for ${moved} bytes of experts`);
  assert.match(some.plan, /30 of 120/);
  await page.close();
});

test("the budget can be changed while a conversation goes on", async () => {
  const page = await world.page();
  const { before, after, ids } = await page.evaluate(async (model) => {
    const engine = await Moxel.load({ model: new URL(model, document.baseURI), expertBudget: "100%" });
    const prompt = [5, 9, 2, 7];
    const ask = async () => (await engine.completions.create({ prompt, max_tokens: 8 })).choices[0].token_ids;
    const ids = [await ask()];
    const before = (await engine.stats()).experts.slots;
    await engine.setExpertBudget("25%");
    ids.push(await ask());
    const after = (await engine.stats()).experts.slots;
    await engine.unload();
    return { before, after, ids };
  }, TINY);
  assert.ok(after < before, `${after} slots after ${before}`);
  assert.deepEqual(ids[0], ids[1]);
  await page.close();
});
