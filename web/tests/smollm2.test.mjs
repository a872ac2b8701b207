// A real model in the browser says what the command line says.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { deviation, distance } from "./harness/safetensors.mjs";
import { dense, nativeLogits, nativeTokens } from "./harness/native.mjs";
import { start } from "./harness/world.mjs";

const MODEL = "/models/smollm2.gguf";
/** Their 16 greedy tokens follow with a margin that no rounding of another driver reaches. */
const PROMPTS = ["The capital of France is", "1, 2, 3, 4, 5,", "Water is made of hydrogen and"];

let world, page;
before(async () => {
  world = await start({ models: { "smollm2.gguf": dense } });
  page = await world.page();
  await page.evaluate(async (model) => {
    window.engine = await Moxel.load({ model: new URL(model, document.baseURI), precision: "exact", context: 512 });
  }, MODEL);
});
after(() => world?.close());

test("the first 16 greedy tokens are the command line's", async () => {
  for (const prompt of PROMPTS) {
    const found = await page.evaluate(async (prompt) => {
      const completion = await engine.completions.create({ prompt, max_tokens: 16 });
      return completion.choices[0].token_ids;
    }, prompt);
    assert.deepEqual(found, await nativeTokens(dense, prompt, 16), prompt);
  }
});

test("logits are the command line's", async () => {
  const tokens = await page.evaluate((prompt) => engine.tokenize(prompt), PROMPTS[0]);
  const found = await page.evaluate(async (tokens) => [...(await engine.logits(tokens)).logits], tokens);
  const expected = await nativeLogits(dense, tokens);
  const error = distance(found, expected) / deviation(expected);
  assert.ok(error <= 1e-2, `logits differ by ${error} standard deviations`);
});

test("a chat is streamed, with usage at its end", async () => {
  const { chunks, whole } = await page.evaluate(async () => {
    const request = { messages: [{ role: "user", content: "Say hello to my friend Anna." }], max_tokens: 8 };
    const chunks = [];
    for await (const chunk of await engine.chat.completions.create({ ...request, stream: true })) chunks.push(chunk);
    return { chunks, whole: await engine.chat.completions.create(request) };
  });
  const text = chunks.map((chunk) => chunk.choices[0].delta.content ?? "").join("");
  assert.equal(text, whole.choices[0].message.content);
  assert.ok(chunks.length >= 8, `${chunks.length} chunks`);
  const last = chunks.at(-1);
  assert.equal(last.object, "chat.completion.chunk");
  assert.equal(last.choices[0].finish_reason, "length");
  assert.equal(last.usage.completion_tokens, 8);
  assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens);
  // The second time the prompt is known already, but for the token whose logits are wanted.
  assert.equal(whole.usage.cached_tokens, whole.usage.prompt_tokens - 1);
});

test("an answer can be interrupted and aborted", async () => {
  const said = await page.evaluate(async () => {
    const request = { prompt: "Once upon a time", max_tokens: 200, stream: true };
    let pieces = 0;
    let reason;
    for await (const piece of await engine.completions.create(request)) {
      pieces += 1;
      if (pieces === 3) engine.interrupt();
      reason = piece.choices[0].finish_reason;
    }
    const abort = new AbortController();
    const aborted = await (async () => {
      for await (const _ of await engine.completions.create(request, { signal: abort.signal })) abort.abort();
    })().catch((error) => ({ code: error.code, known: error instanceof MoxelError }));
    // Leaving the loop stops the answer too.
    for await (const _ of await engine.completions.create(request)) break;
    const after = await engine.completions.create({ prompt: "2 + 2 =", max_tokens: 2 });
    return { pieces, reason, aborted, after: after.choices[0].token_ids.length };
  });
  assert.ok(said.pieces < 10, `${said.pieces} pieces`);
  assert.equal(said.reason, "cancelled");
  assert.deepEqual(said.aborted, { code: "aborted", known: true });
  assert.equal(said.after, 2);
});

test("requests that make no sense are refused by name", async () => {
  const refused = await page.evaluate(async () => {
    const wrong = [
      { prompt: "a", temperature: -1 },
      { prompt: "a", top_p: "half" },
      { prompt: "a", max_tokens: 0 },
      { prompt: [99999999] },
      {},
    ];
    const of = (request) => engine.completions.create(request).then(() => "accepted", (e) => `${e.code}: ${e.message}`);
    return Promise.all(wrong.map(of));
  });
  const names = [/temperature/, /top_p/, /max_tokens/, /99999999/, /prompt/];
  refused.forEach((said, i) => {
    assert.match(said, /^request: /);
    assert.match(said, names[i]);
  });
});

test("the heap of WebAssembly stays small", async () => {
  const { wasmBytes, gpuBytes } = await page.evaluate(() => engine.stats());
  assert.ok(wasmBytes < 160e6, `${wasmBytes} bytes`);
  assert.ok(gpuBytes > 90e6, `${gpuBytes} bytes on the GPU`);
});

test("kernels are measured once, and known afterwards", async () => {
  const found = await page.evaluate(async (model) => {
    await engine.unload();
    const root = await (await navigator.storage.getDirectory()).getDirectoryHandle("moxel-cache");
    const handle = await root.getFileHandle("kernels.json");
    const kept = JSON.parse(await (await handle.getFile()).text());
    // Another choice than the one that was measured, so that it shows where this one comes from.
    const changed = kept.map(({ kernels, ...key }) => ({ ...key, kernels: JSON.stringify({ ...JSON.parse(kernels), matmul: "tiled" }) }));
    const loadWith = async (content) => {
      const writable = await handle.createWritable();
      await writable.write(content);
      await writable.close();
      const loaded = await Moxel.load({ model: new URL(model, document.baseURI), precision: "exact", context: 512 });
      await loaded.unload();
      return loaded.info.kernels;
    };
    const bytes = JSON.stringify(changed).replaceAll('\\"rows\\"', '\\"rows_bytes\\"');
    return { choices: kept.length, measured: engine.info.kernels, known: await loadWith(JSON.stringify(changed)), refused: await loadWith(bytes) };
  }, MODEL);
  assert.equal(found.choices, 1);
  assert.doesNotMatch(found.measured, /tiled/);
  assert.match(found.known, /tiled/);
  // Exact results are not computed by kernels that round.
  assert.doesNotMatch(found.refused, /bytes|tiled/);
});
