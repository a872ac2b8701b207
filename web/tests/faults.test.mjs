// What goes wrong while a model is loaded or answers is survived, or said in a sentence.

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile, cp } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, beforeEach, test } from "node:test";
import { golden, start } from "./harness/world.mjs";
import { spoken } from "./harness/spoken.mjs";
import { busy, cut, stumble } from "./harness/faults.mjs";

const MODEL = "/models/spoken/maverick/";

let world, folder;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "moxel-broken-"));
  const gguf = await readFile(path.join(golden("llama_quants"), "model.gguf"));
  await writeFile(path.join(folder, "cut.gguf"), gguf.subarray(0, gguf.length - 1000));
  await writeFile(path.join(folder, "text.gguf"), "<html>Not found</html>");
  await cp(golden("scout"), path.join(folder, "strange"), { recursive: true });
  const config = path.join(folder, "strange", "config.json");
  await writeFile(config, (await readFile(config, "utf8")).replace(/"model_type": "llama4[a-z_]*"/, '"model_type": "mamba9"'));
  await spoken("maverick", folder);
  world = await start({ models: { spoken: folder, broken: folder } });
});
after(async () => {
  await world?.close();
  await rm(folder, { recursive: true, force: true });
});
beforeEach(() => {
  world.site.fault = () => false;
});

/** Loads and generates in a page; the page is left open where `keep` is set. */
async function generate(page, model, options = {}) {
  return page.evaluate(
    async ([model, options]) => {
      const events = [];
      const pieces = [];
      try {
        const onEvent = (event) => events.push(event);
        const engine = await Moxel.load({ model: new URL(model, document.baseURI), cache: false, onEvent, ...options });
        const request = { prompt: [5, 9, 2, 7], max_tokens: 40, temperature: 0.8, seed: 7, stream: true };
        for await (const piece of await engine.completions.create(request)) {
          pieces.push(...piece.choices[0].token_ids);
          window.seen = pieces.length;
        }
        await engine.unload();
        return { ids: pieces, events };
      } catch (error) {
        return { ids: pieces, events, code: error.code, message: error.message };
      }
    },
    [model, options],
  );
}

/** A page whose worker keeps the devices that the engine asks for in `self.devices`. */
async function pageWithDevices() {
  const page = await world.context.newPage();
  await page.route("**/moxel-worker.js", async (route) => {
    const response = await route.fetch();
    const catcher = `const request = GPUAdapter.prototype.requestDevice;
      GPUAdapter.prototype.requestDevice = async function (...rest) { return (self.devices ??= [], self.devices.push(await request.apply(this, rest)), self.devices.at(-1)); };\n`;
    await route.fulfill({ response, body: catcher + (await response.text()) });
  });
  await page.goto(`${world.site.url}/blank/index.html`);
  return page;
}

test("a device that is lost in mid-answer is replaced, and the answer is the same", async () => {
  const calm = await world.page();
  const undisturbed = await generate(calm, MODEL);
  await calm.close();
  assert.equal(undisturbed.ids.length, 40);

  const page = await pageWithDevices();
  const found = generate(page, MODEL);
  await page.waitForFunction(() => window.seen > 5);
  const lost = await page.workers()[0].evaluate(() => {
    self.devices.at(-1).destroy();
    return self.devices.length;
  });
  assert.equal(lost, 1);
  const { ids, events, message } = await found;
  assert.deepEqual(ids, undisturbed.ids, message);
  assert.deepEqual(events.map((event) => event.type).filter((type) => type !== "fetching"), ["device-lost", "recovered"]);
  await page.close();
});

test("a device that failed while nobody looked is replaced by whatever is asked for next", async () => {
  const page = await pageWithDevices();
  await page.evaluate(async (model) => {
    window.events = [];
    const onEvent = ({ type }) => type === "fetching" || window.events.push(type);
    window.engine = await Moxel.load({ model: new URL(model, document.baseURI), cache: false, onEvent });
    window.answer = async () => {
      const { choices } = await engine.completions.create({ prompt: [5, 9, 2, 7], max_tokens: 6 });
      return choices[0].token_ids;
    };
  }, MODEL);
  const expected = await page.evaluate(() => answer());
  const faults = {
    // As the lack of memory does, it arrives at the device itself, and stays.
    error: async () => {
      const device = self.devices.at(-1);
      device.createBuffer({ size: 16, usage: 0 });
      // The browser has told of the error when it tells of what came after it.
      await device.queue.onSubmittedWorkDone();
    },
    loss: async () => {
      self.devices.at(-1).destroy();
      await self.devices.at(-1).lost;
    },
  };
  const requests = {
    answer: () => answer(),
    logits: async () => (await engine.logits([5, 9, 2])).tokens,
    setExpertBudget: async () => typeof (await engine.setExpertBudget("50%")),
  };
  const results = { answer: expected, logits: 3, setExpertBudget: "string" };
  for (const [fault, happens] of Object.entries(faults)) {
    for (const [request, make] of Object.entries(requests)) {
      const what = `${request} after ${fault}`;
      const before = await page.workers()[0].evaluate(() => self.devices.length);
      await page.evaluate(() => void (window.events.length = 0));
      await page.workers()[0].evaluate(happens);
      assert.deepEqual(await page.evaluate(make), results[request], what);
      assert.deepEqual(await page.evaluate(() => answer()), expected, `an answer after ${what}`);
      assert.equal(await page.workers()[0].evaluate(() => self.devices.length), before + 1, what);
      assert.deepEqual(await page.evaluate(() => window.events), ["device-lost", "recovered"], what);
    }
  }
  await page.close();
});

test("connections that break are taken up where they ended", async () => {
  world.site.fault = stumble({ times: 3 });
  const page = await world.page();
  const { ids, events, message } = await generate(page, MODEL);
  assert.equal(ids.length, 40, message);
  assert.ok(events.filter((event) => event.type === "retry").length >= 3, JSON.stringify(events));
  await page.close();
});

test("a busy server is asked again", async () => {
  world.site.fault = busy({ times: 2 });
  const page = await world.page();
  const { ids, message } = await generate(page, MODEL);
  assert.equal(ids.length, 40, message);
  await page.close();
});

test("a network that is gone is named", async () => {
  const page = await world.page();
  world.site.fault = cut({ after: 200_000 });
  const { code, message } = await generate(page, MODEL);
  assert.equal(code, "read", message);
  assert.match(message, /models\/spoken\/maverick/);
  await page.close();
});

test("bad models are refused with the sentence that the command line says", async () => {
  const page = await world.page();
  const said = {};
  for (const name of ["cut.gguf", "text.gguf", "strange/", "nothing.gguf", "nowhere/"]) {
    const { code, message } = await generate(page, `/models/broken/${name}`);
    said[name] = `${code}: ${message}`;
  }
  assert.match(said["cut.gguf"], /^format: .*cut\.gguf/);
  assert.match(said["text.gguf"], /^format: .*text\.gguf/);
  assert.match(said["strange/"], /^unsupported: .*mamba9/);
  assert.match(said["nothing.gguf"], /^read: .*nothing\.gguf: there is no such file/);
  assert.match(said["nowhere/"], /^(read|format): .*nowhere/);
  await page.close();
});

test("a worker that was killed ends what waits for it, and another one can be started", async () => {
  const page = await world.page();
  const found = page.evaluate(async (model) => {
    const engine = await Moxel.load({ model: new URL(model, document.baseURI), cache: false });
    try {
      for await (const _ of await engine.completions.create({ prompt: [1, 2, 3], max_tokens: 90, stream: true })) window.going = true;
      return "it went on";
    } catch (error) {
      const again = await Moxel.load({ model: new URL(model, document.baseURI), cache: false });
      const completion = await again.completions.create({ prompt: [1, 2, 3], max_tokens: 3 });
      return { code: error.code, after: completion.choices[0].token_ids.length };
    }
  }, MODEL);
  await page.waitForFunction(() => window.going);
  // As when the browser ends it for want of memory: no script of it runs any more.
  await page.workers()[0].evaluate(() => setTimeout(() => { throw new Error("out of memory"); }, 0));
  assert.deepEqual(await found, { code: "worker", after: 3 });
  await page.close();
});

test("loading can be aborted", async () => {
  const page = await world.page();
  const code = await page.evaluate(async (model) => {
    const abort = new AbortController();
    const onProgress = () => abort.abort();
    return Moxel.load({ model: new URL(model, document.baseURI), cache: false, signal: abort.signal, onProgress }).then(
      () => "loaded",
      (error) => error.code,
    );
  }, MODEL);
  assert.equal(code, "aborted");
  await page.close();
});

test("a browser without WebGPU is told so", async () => {
  const page = await world.context.newPage();
  await page.route("**/moxel-worker.js", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: `delete WorkerNavigator.prototype.gpu;\n${await response.text()}` });
  });
  await page.goto(`${world.site.url}/blank/index.html`);
  await page.evaluate(() => delete Navigator.prototype.gpu);
  const { code, message } = await generate(page, MODEL);
  assert.equal(code, "no-webgpu", message);
  assert.equal((await page.evaluate(() => Moxel.isSupported())).supported, false);
  await page.close();
});
