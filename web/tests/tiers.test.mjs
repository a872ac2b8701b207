// The tiers in a browser, where browsers and servers are not what they usually are.

import assert from "node:assert/strict";
import { after, before, beforeEach, test } from "node:test";
import { serve } from "../serve.mjs";
import { golden, start } from "./harness/world.mjs";

const MODEL = "/models/goldens/maverick/";

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

/** Loads in a page of its own, whose worker first runs `script`; what came of it and how many bytes were sent for it. */
async function visit(options = {}, script = "") {
  world.site.log.length = 0;
  const page = await world.context.newPage();
  await page.route("**/moxel-worker.js", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: `${script};\n${await response.text()}` });
  });
  await page.goto(`${world.site.url}/blank/index.html`);
  const seen = await page.evaluate(
    async ([model, options]) => {
      const events = [];
      try {
        const engine = await Moxel.load({ model, expertBudget: "100%", onEvent: (event) => events.push(event), ...options });
        // Enough for most experts to be chosen, and so at a quarter of them for many to be read twice.
        const ids = Array.from({ length: 60 }, (_, index) => (index * 37) % 250);
        const { logits } = await engine.logits(ids);
        const again = await engine.logits(ids);
        const stats = await engine.stats();
        await engine.unload();
        return { logits: [...logits], again: [...again.logits], stats, events, cached: await Moxel.cache.list() };
      } catch (error) {
        return { code: error.code, message: error.message, events };
      }
    },
    [MODEL, options],
  );
  await page.close();
  assert.ok(seen.logits, seen.message);
  return { ...seen, sent: world.site.weights().reduce((sum, answer) => sum + answer.bytes, 0) };
}

test("browsers that cannot write at once write in place", async () => {
  const script = "delete FileSystemFileHandle.prototype.createWritable";
  const first = await visit({}, script);
  assert.deepEqual(first.events, []);
  assert.ok(first.cached[0].complete);
  const second = await visit({}, script);
  assert.deepEqual([second.logits, second.sent], [first.logits, 0]);
});

test("where the browser gives no storage, everything goes on without", async () => {
  const seen = await visit({}, "StorageManager.prototype.getDirectory = async () => { throw new DOMException('private', 'SecurityError') }");
  assert.deepEqual(seen.events.map(({ type }) => type), ["cache-off"]);
  assert.match(seen.events[0].message, /private/);
  assert.deepEqual(seen.cached, []);
});

test("a file that nothing tells the version of is not kept", async () => {
  world.site.fault = (_, response) => {
    const original = response.setHeader.bind(response);
    response.setHeader = (name, value) => (/^(etag|last-modified)$/i.test(name) ? response : original(name, value));
    return false;
  };
  const first = await visit();
  const second = await visit();
  assert.equal(second.sent, first.sent);
  assert.equal(second.stats.read.disk, 0);
});

test("a server without ranges is read once, whole, with the cache and without", async () => {
  const whole = await visit({ cache: false });
  world.site.fault = (request) => {
    delete request.headers.range;
    return false;
  };
  const streamed = await visit({ cache: false });
  assert.deepEqual(streamed.logits, whole.logits);
  assert.ok(streamed.sent < 1.1 * whole.sent, `${streamed.sent} bytes instead of ${whole.sent}`);
  await visit();
  const cached = await visit();
  assert.deepEqual([cached.logits, cached.sent], [whole.logits, 0]);
});

test("a folder of another origin is read and kept, if its server allows it on every answer", async () => {
  let misses = 0;
  const visitOther = async (allows) => {
    const intercept = (request, response) => {
      if (!allows(request)) return false;
      response.setHeader("Access-Control-Allow-Origin", "*");
      response.setHeader("Access-Control-Expose-Headers", "Content-Range, ETag");
      return false;
    };
    const log = [];
    const other = await serve({ folders: { "/": golden("") }, intercept, finished: (answer) => log.push(answer) });
    const page = await world.page();
    try {
      const load = () =>
        page.evaluate(async (model) => {
          const events = [];
          try {
            const engine = await Moxel.load({ model, onEvent: (event) => events.push(event) });
            const { logits } = await engine.logits([1, 2, 3]);
            await engine.unload();
            return { logits: [...logits], events };
          } catch (error) {
            return { code: error.code, message: error.message, events };
          }
        }, `${other.url}/maverick/`);
      const first = await load();
      misses = log.filter(({ status }) => status === 404).length;
      log.length = 0;
      const second = first.logits && (await load());
      return { first, second, sent: log.reduce((sum, answer) => sum + answer.bytes, 0) };
    } finally {
      await page.close();
      await other.close();
    }
  };
  const { first, second, sent } = await visitOther(() => true);
  assert.ok(first.logits, first.message);
  assert.deepEqual(first.events, []);
  assert.ok(misses > 0, "nothing was looked for in vain");
  assert.deepEqual([second.logits, second.events, sent], [first.logits, [], 0]);

  const refused = await visitOther((request) => !/moxel\.json/.test(request.url));
  assert.equal(refused.first.code, "read");
  assert.match(refused.first.message, /moxel\.json.*CORS/);
});

test("what the page is told was read is what the server sent", async () => {
  for (const options of [{ cache: false, expertBudget: "25%", memoryBudget: 0 }, { expertBudget: "25%" }, {}]) {
    const { stats, sent } = await visit(options);
    assert.equal(stats.read.network, sent);
  }
});

test("experts come from memory before they come from anywhere else", async () => {
  const all = await visit({ cache: false });
  const some = await visit({ cache: false, expertBudget: "25%" });
  assert.deepEqual([some.logits, some.again], [all.logits, all.again]);
  assert.ok(some.stats.experts.slots < some.stats.experts.experts);
  assert.ok(some.stats.read.memory > 0 && some.stats.memoryBytes > 0);
  assert.equal(all.stats.read.memory, 0);
});
