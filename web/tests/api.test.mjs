// What an application may do with the package: requests of every shape, one after the other and at once, and their end.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { dense } from "./harness/native.mjs";
import { golden, start } from "./harness/world.mjs";

const MODEL = "/models/smollm2.gguf";
const GOLDEN = "/models/goldens/scout/";

let world, page;
before(async () => {
  world = await start({ models: { "smollm2.gguf": dense, goldens: golden("") } });
  page = await world.page();
  await page.evaluate(async (model) => {
    const progress = [];
    const engine = await Moxel.load({ model, context: 256, onProgress: (step) => progress.push(step) });
    const messages = [{ role: "user", content: "What is the capital of France?" }];
    /** What a promise came to. */
    const outcome = (promise) => promise.then((value) => ({ value }), (error) => ({ code: error.code, message: error.message }));
    Object.assign(window, { engine, messages, progress, outcome });
  }, MODEL);
});
after(() => world?.close());

test("progress goes from nothing to everything", async () => {
  const progress = await page.evaluate(() => progress);
  assert.deepEqual([...new Set(progress.map(({ phase }) => phase))], ["open", "dense", "ready"]);
  const last = progress.at(-1);
  assert.ok(last.totalBytes > 90e6 && last.loadedBytes === last.totalBytes && last.networkBytes >= last.totalBytes);
  assert.ok(progress.every(({ loadedBytes }, index) => index === 0 || loadedBytes >= progress[index - 1].loadedBytes));
  assert.ok(progress.some(({ bytesPerSecond, secondsLeft }) => bytesPerSecond > 0 && secondsLeft > 0));
});

test("a chat's answer is OpenAI's, whole and in pieces", async () => {
  const { whole, chunks } = await page.evaluate(async () => {
    const request = { messages, max_tokens: 5 };
    const whole = await engine.chat.completions.create(request);
    const chunks = [];
    for await (const chunk of await engine.chat.completions.create({ ...request, stream: true })) chunks.push(chunk);
    return { whole, chunks };
  });
  const { message, finish_reason, token_ids } = whole.choices[0];
  assert.equal(whole.object, "chat.completion");
  assert.equal(message.role, "assistant");
  assert.equal(finish_reason, "length");
  assert.equal(token_ids.length, 5);
  assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + 5);
  assert.ok(whole.usage.prompt_seconds > 0 && whole.usage.completion_seconds > 0);

  const choices = chunks.map(({ choices }) => choices[0]);
  assert.ok(chunks.every(({ id, object }) => id === chunks[0].id && object === "chat.completion.chunk"));
  assert.deepEqual(choices[0].delta, { role: "assistant", content: "" });
  assert.equal(choices.map(({ delta }) => delta.content ?? "").join(""), message.content);
  assert.deepEqual(choices.flatMap(({ token_ids }) => token_ids), token_ids);
  assert.deepEqual(choices.map(({ finish_reason }) => finish_reason).filter(Boolean), ["length"]);
  const { usage } = chunks.at(-1);
  assert.equal(usage.completion_tokens, 5);
  assert.ok(usage.cached_tokens > 20, "the conversation was not computed again");
  assert.ok(chunks.slice(0, -1).every((chunk) => chunk.usage === undefined));
});

test("a stop string ends the text before itself", async () => {
  const [free, stopped] = await page.evaluate(async () => {
    const request = { prompt: "1, 2, 3, 4, 5,", max_tokens: 8 };
    const free = await engine.completions.create(request);
    return [free, await engine.completions.create({ ...request, stop: [" 7"] })];
  });
  assert.match(free.choices[0].text, /^ 6, 7/);
  assert.deepEqual([stopped.choices[0].text, stopped.choices[0].finish_reason], [" 6,", "stop"]);
});

test("the same seed gives the same text, another one another", async () => {
  const texts = await page.evaluate(async () => {
    const texts = [];
    for (const seed of [1, 1, 2]) {
      // Something else comes between, so that the prompt is computed each time: what is cached was rounded in another way.
      await engine.completions.create({ prompt: "5", max_tokens: 1 });
      const { choices } = await engine.completions.create({ prompt: "Once upon a time", max_tokens: 6, temperature: 1.5, seed });
      texts.push(choices[0].text);
    }
    return texts;
  });
  assert.equal(texts[0], texts[1]);
  assert.notEqual(texts[0], texts[2]);
});

test("whoever leaves a stream, aborts or interrupts it is followed by the next request", async () => {
  const found = await page.evaluate(async () => {
    const request = { prompt: "The", max_tokens: 200, stream: true };
    const found = { left: 0, interrupted: [] };
    for await (const _ of await engine.completions.create(request)) if ((found.left += 1) === 2) break;

    const abort = new AbortController();
    const aborted = await engine.completions.create(request, { signal: abort.signal });
    found.aborted = await outcome((async () => {
      for await (const _ of aborted) abort.abort();
    })());

    for await (const { choices } of await engine.completions.create(request)) {
      found.interrupted.push(choices[0]);
      if (found.interrupted.length === 2) engine.interrupt();
    }
    const { usage } = await engine.completions.create({ prompt: "The", max_tokens: 2 });
    return { ...found, after: usage.completion_tokens };
  });
  assert.equal(found.left, 2);
  assert.equal(found.aborted.code, "aborted");
  assert.equal(found.interrupted.at(-1).finish_reason, "cancelled");
  assert.ok(found.interrupted.length < 10);
  assert.equal(found.after, 2);
});

test("requests wait their turn, and one that is aborted while it waits is never computed", async () => {
  const found = await page.evaluate(async () => {
    const abort = new AbortController();
    const create = (prompt, signal) => outcome(engine.completions.create({ prompt, max_tokens: 4 }, { signal }));
    const all = [create("1, 2, 3,"), create("A, B, C,", abort.signal), create("1, 2, 3,"), outcome(engine.logits([1, 2, 3]))];
    abort.abort();
    const [first, second, third, logits] = await Promise.all(all);
    return { first, second, third, tokens: logits.value.tokens };
  });
  assert.equal(found.first.value.choices[0].text, found.third.value.choices[0].text);
  assert.equal(found.second.code, "aborted");
  assert.equal(found.tokens, 3);
});

test("what cannot be done is said, and the engine goes on", async () => {
  const found = await page.evaluate(async () => {
    const long = Array.from({ length: 300 }, () => 5);
    return {
      long: await outcome(engine.completions.create({ prompt: long })),
      strange: await outcome(engine.completions.create({ prompt: [4_000_000_000] })),
      hot: await outcome(engine.chat.completions.create({ messages, temperature: -1 })),
      tools: await outcome(engine.chat.completions.create({ messages, tools: [] })),
      late: await outcome(engine.logits([1], { signal: AbortSignal.abort() })),
      budget: await outcome(engine.setExpertBudget("50%")),
      nothing: await outcome(Moxel.load({})),
      ids: await engine.tokenize("Hello world"),
      prompt: (await engine.chatPrompt(messages)).length,
      back: await engine.detokenize(await engine.tokenize("Hello world")),
    };
  });
  assert.equal(found.long.code, "context-full");
  for (const name of ["strange", "hot", "tools", "budget", "nothing"]) assert.equal(found[name].code, "request", JSON.stringify(found[name]));
  assert.match(found.hot.message, /^temperature must be/);
  assert.equal(found.late.code, "aborted");
  assert.deepEqual(found.ids, [19556, 905]);
  assert.equal(found.back, "Hello world");
  assert.ok(found.prompt > 20);
});

test("figures tell what was read and computed", async () => {
  const stats = await page.evaluate(() => engine.stats());
  assert.ok(stats.read.network > 90e6 && stats.read.file === 0);
  assert.ok(stats.requests > 1 && stats.counters.dispatches > 1000);
  assert.ok(stats.wasmBytes > 0 && stats.wasmBytes < 160e6, `${stats.wasmBytes} bytes of WebAssembly heap`);
  assert.ok(stats.gpuBytes > 90e6);
});

test("after unloading every call says so", async () => {
  const found = await page.evaluate(async () => {
    const waiting = outcome(engine.completions.create({ prompt: "The", max_tokens: 200 }));
    await engine.unload();
    return [await waiting, await outcome(engine.tokenize("x")), await outcome(engine.stats()), await outcome(engine.unload())];
  });
  assert.ok(["unloaded", undefined].includes(found[0].code), JSON.stringify(found[0]));
  assert.deepEqual(found.slice(1).map(({ code }) => code), ["unloaded", "unloaded", undefined]);
});

test("a worker that vanishes without a word is noticed", async () => {
  const found = page.evaluate(async (model) => {
    const engine = await Moxel.load({ model, cache: false });
    window.loaded = true;
    await new Promise((resolve) => (window.goOn = resolve));
    const call = outcome(engine.logits(Array.from({ length: 60 }, (_, index) => index)));
    return [await call, await outcome(engine.stats())];
  }, GOLDEN);
  await page.waitForFunction(() => window.loaded);
  await page.workers()[0].evaluate(() => self.close());
  await page.evaluate(() => window.goOn());
  assert.deepEqual((await found).map(({ code }) => code), ["worker", "worker"]);
});

test("picked files give what their server gives", async () => {
  const found = await page.evaluate(async (model) => {
    const files = await Promise.all(
      ["config.json", "model.safetensors"].map(async (name) => new File([await (await fetch(model + name)).blob()], name)),
    );
    const all = [];
    for (const place of [model, files]) {
      const engine = await Moxel.load({ model: place, cache: false });
      const { logits } = await engine.logits([5, 9, 2, 7]);
      all.push({ logits: [...logits], read: (await engine.stats()).read });
      await engine.unload();
    }
    return all;
  }, GOLDEN);
  assert.deepEqual(found[1].logits, found[0].logits);
  assert.ok(found[1].read.file > 100_000 && found[1].read.network === 0);
});

test("the package and a model may come from another origin that allows it", async () => {
  const other = await world.context.newPage();
  world.site.fault = (_, response) => {
    response.setHeader("Access-Control-Allow-Origin", "*");
    return false;
  };
  await other.goto(world.site.url.replace("127.0.0.1", "localhost") + "/blank/index.html");
  const load = (origin) =>
    other.evaluate(
      async ([origin, model]) => {
        const { Moxel } = await import(`${origin}/pkg/moxel.js`);
        try {
          const engine = await Moxel.load({ model: origin + model, cache: false });
          const { vocab } = await engine.logits([1, 2, 3]);
          await engine.unload();
          return { vocab };
        } catch (error) {
          return { code: error.code, message: error.message };
        }
      },
      [origin, GOLDEN],
    );
  assert.ok((await load(world.site.url)).vocab > 0);
  world.site.fault = (request, response) => {
    if (request.url.startsWith("/pkg/")) response.setHeader("Access-Control-Allow-Origin", "*");
    return false;
  };
  const { code, message } = await load(world.site.url);
  assert.equal(code, "read");
  assert.match(message, /CORS/);
  world.site.fault = () => false;
  await other.close();
});

test("it works inside a worker of the application's own", async () => {
  const vocab = await page.evaluate(
    ([script, model]) => {
      const code = `import { Moxel } from ${JSON.stringify(script)};
        const engine = await Moxel.load({ model: ${JSON.stringify(model)}, cache: false });
        const { vocab } = await engine.logits([1, 2, 3]);
        await engine.unload();
        postMessage(vocab);`;
      const worker = new Worker(URL.createObjectURL(new Blob([code], { type: "text/javascript" })), { type: "module" });
      return new Promise((resolve, reject) => {
        worker.onmessage = ({ data }) => resolve(data);
        worker.onerror = ({ message }) => reject(new Error(message));
      });
    },
    [`${world.site.url}/pkg/moxel.js`, world.site.url + GOLDEN],
  );
  assert.equal(vocab, 643);
});
