// Every tiny checkpoint gives the logits and experts of its reference implementation, in the browser.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import path from "node:path";
import { golden, start } from "./harness/world.mjs";
import { deviation, distance, readSafetensors } from "./harness/safetensors.mjs";

/** The same bound as natively: largest distance of logits in standard deviations. */
const BOUND = 2e-3;
const CASES = {
  scout: "scout/",
  scout_gguf: "scout_gguf/model.gguf",
  maverick: "maverick/",
  top2: "top2/",
  nested: "nested/",
  llama_tied: "llama_tied/",
  llama_tied_gguf: "llama_tied/model.gguf",
  llama_untied: "llama_untied/",
  llama_bias: "llama_bias/",
  llama_quants: "llama_quants/model.gguf",
};

let world;
before(async () => {
  world = await start({ models: { goldens: golden("") } });
});
after(() => world?.close());

for (const [name, location] of Object.entries(CASES)) {
  test(name, async () => {
    const { tensors } = await readSafetensors(path.join(golden(location.split("/")[0]), "expected.safetensors"));
    const tokens = [...tensors.tokens.data];
    const page = await world.page();
    const found = await page.evaluate(
      async ([location, tokens]) => {
        const engine = await Moxel.load({ model: new URL(location, document.baseURI), precision: "exact" });
        const { logits, routing } = await engine.logits(tokens);
        await engine.unload();
        return { logits: [...logits], routing: routing.map(({ layer, ids }) => ({ layer, ids: [...ids] })) };
      },
      [`/models/goldens/${location}`, tokens],
    );
    const expected = tensors.logits.data;
    const error = distance(found.logits, expected) / deviation(expected);
    assert.ok(error <= BOUND, `logits differ by ${error} standard deviations`);
    // The case that must fail: the last token's logits are not the first one's.
    const [, vocab] = tensors.logits.shape;
    assert.ok(distance(expected.slice(0, vocab), expected.slice(-vocab)) / deviation(expected) > 100 * BOUND);
    for (const { layer, ids } of found.routing) {
      assert.deepEqual(ids, [...tensors[`router.${layer}.ids`].data], `experts of layer ${layer}`);
    }
    await page.close();
  });
}
