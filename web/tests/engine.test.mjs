// What the engine does differently in a browser than natively: memory that is refused later, a small heap, and experts that
// come when there is time.

import assert from "node:assert/strict";
import { cp, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { spoken } from "./harness/spoken.mjs";
import { golden, start } from "./harness/world.mjs";

const MODEL = "/models/made/maverick/";
const MOST_HEAP = 160_000_000;

let world, folder;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "moxel-engine-"));
  await spoken("maverick", folder);
  await cp(golden("scout"), path.join(folder, "wordy"), { recursive: true });
  await writeFile(path.join(folder, "wordy", "tokenizer.json"), JSON.stringify(wordy(200_000, 440_000)));
  world = await start({ models: { made: folder } });
});
after(async () => {
  await world?.close();
  await rm(folder, { recursive: true, force: true });
});

/** A byte-level `tokenizer.json` with so many tokens and merges, as large as those of large models. */
function wordy(tokens, merges) {
  const alphabet = [...Array(94).keys()].map((i) => String.fromCharCode(33 + i)).concat("Ġ");
  const words = [...alphabet];
  const known = new Set(words);
  const pairs = [];
  // Two letters each first, then those with the words before them in turn, so that parts are shared as in a real vocabulary.
  for (let i = 0; known.size < tokens; i++) {
    const [left, right] = [words[i % words.length % 9000], words[Math.floor(i / 97) % words.length]];
    const word = left + right;
    if (word.length > 12 || known.has(word)) continue;
    known.add(word);
    words.push(word);
    pairs.push([left, right]);
  }
  const made = new Set(pairs.map((pair) => pair.join(" ")));
  for (const word of words) {
    for (let cut = 1; cut < word.length && pairs.length < merges; cut++) {
      const pair = [word.slice(0, cut), word.slice(cut)];
      if (!pair.every((part) => known.has(part)) || made.has(pair.join(" "))) continue;
      made.add(pair.join(" "));
      pairs.push(pair);
    }
  }
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false };
  return {
    version: "1.0",
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: { type: "BPE", vocab: Object.fromEntries(words.map((word, id) => [word, id])), merges: pairs },
  };
}

test("the first token does not wait for experts that it does not choose, and spare time brings the others", async () => {
  const page = await world.page();
  const found = await page.evaluate(async (model) => {
    const progress = [];
    const load = (options) => Moxel.load({ model: new URL(model, document.baseURI), cache: false, ...options });
    const here = async (engine) => (await engine.stats()).resident.flat().reduce((sum, there) => sum + there, 0);
    const ask = async (engine) => (await engine.completions.create({ prompt: [5, 9, 2, 7], max_tokens: 8 })).choices[0].token_ids;
    const whole = await load({ expertBudget: "100%" });
    const all = await here(whole);
    const expected = await ask(whole);
    await whole.unload();
    const engine = await load({ onProgress: (step) => progress.push(step) });
    const ids = await ask(engine);
    const stats = await engine.stats();
    while ((await here(engine)) < all) await new Promise((resolve) => setTimeout(resolve, 20));
    const again = await ask(engine);
    await engine.unload();
    return { all, expected, ids, again, stats, loaded: progress.at(-1), info: engine.info };
  }, MODEL);
  assert.equal(found.all, found.stats.experts.experts);
  assert.deepEqual([found.ids, found.again], [found.expected, found.expected]);
  assert.match(found.info.expertPlan, /^all /);
  const dense = found.info.weightBytes - found.info.expertBytes;
  assert.ok(found.loaded.totalBytes <= dense, `${found.loaded.totalBytes} bytes until the model was ready, ${dense} are dense`);
  await page.close();
});

test("where the GPU has no room for all experts, some have a place; where it has none for the model, that is said", async () => {
  const [all, peak, experts] = await loadWith(Number.MAX_SAFE_INTEGER);
  assert.match(all, /^all /);
  const [some] = await loadWith(peak - experts / 2);
  assert.match(some, /^\d+ of \d+ on the GPU/);
  const [none] = await loadWith(0.1 * peak);
  assert.match(none, /^too-small: not enough GPU memory/);
});

/**
 * Loads the model on a GPU with `room` bytes, which says that it has no more when it is asked, as GPUs in browsers do.
 * Returns the plan for experts, or the error; the most bytes that were held; and the bytes of all experts.
 */
async function loadWith(room) {
  const page = await world.context.newPage();
  await page.route("**/moxel-worker.js", async (route) => {
    const response = await route.fetch();
    const limit = `let held = 0;
      self.peak = 0;
      const { createBuffer, popErrorScope } = GPUDevice.prototype;
      GPUDevice.prototype.createBuffer = function (descriptor) {
        const buffer = createBuffer.call(this, descriptor);
        held += descriptor.size;
        self.peak = Math.max(self.peak, held);
        buffer.destroy = () => { held -= descriptor.size; GPUBuffer.prototype.destroy.call(buffer); };
        return buffer;
      };
      GPUDevice.prototype.popErrorScope = async function () {
        const full = held > ${room};
        return (await popErrorScope.call(this)) ?? (full ? new GPUOutOfMemoryError("full") : null);
      };\n`;
    await route.fulfill({ response, body: limit + (await response.text()) });
  });
  await page.goto(`${world.site.url}/blank/index.html`);
  const [said, experts] = await page.evaluate(async (model) => {
    try {
      const engine = await Moxel.load({ model: new URL(model, document.baseURI), cache: false });
      await engine.completions.create({ prompt: [5, 9, 2, 7], max_tokens: 2 });
      return [engine.info.expertPlan, engine.info.expertBytes];
    } catch (error) {
      return [`${error.code}: ${error.message}`];
    }
  }, MODEL);
  // The worker of a load that failed has ended.
  const peak = said.startsWith("too-small") ? 0 : await page.workers()[0].evaluate(() => self.peak);
  await page.close();
  return [said, peak, experts];
}

test("the heap stays small whatever the vocabulary", async () => {
  const page = await world.page();
  const { wasmBytes, text } = await page.evaluate(async (model) => {
    const engine = await Moxel.load({ model: new URL(model, document.baseURI), cache: false });
    const { wasmBytes } = await engine.stats();
    const text = await engine.detokenize(await engine.tokenize("some words"));
    await engine.unload();
    return { wasmBytes, text };
  }, "/models/made/wordy/");
  assert.equal(text, "some words");
  assert.ok(wasmBytes < MOST_HEAP, `${wasmBytes} bytes`);
  await page.close();
});
