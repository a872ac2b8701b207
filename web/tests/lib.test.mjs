// The parts of the library that decide and compute: no browser, no network.

import assert from "node:assert/strict";
import { test } from "node:test";
import { library } from "./harness/library.mjs";

const {
  Blocks, ReadAhead, Recent, Lanes, MemoryTier, Meter, MoxelError, Stream, Turnstile, chatRequest, checkLoad, completionRequest,
  contentRange, contradicts, copyMessages, copyTokens, locate, matches, parseModel, retryAfter,
} = await library(
  "tiers/blocks.ts", "tiers/read-ahead.ts", "tiers/recent.ts", "tiers/lanes.ts", "tiers/memory.ts", "tiers/answer.ts",
  "tiers/layout.ts", "progress.ts", "errors.ts", "stream.ts", "turnstile.ts", "validate.ts", "location.ts",
);

const later = (milliseconds = 1) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const refuses = (work, pattern) => assert.throws(work, (error) => (assert.match(error.message, pattern), error.code === "request"));

test("blocks cover exactly the bytes of a file", () => {
  for (const [size, bytes] of [[0, 10], [1, 10], [10, 10], [1001, 10], [3 * 2 ** 31 + 5, undefined]]) {
    const blocks = new Blocks(size, bytes);
    assert.equal(blocks.startOf(blocks.count), size);
    assert.ok(blocks.count === 0 || blocks.lengthOf(blocks.count - 1) > 0);
  }
  const blocks = new Blocks(95, 10);
  assert.deepEqual(blocks.covering(0, 10), { start: 0, end: 1 });
  assert.deepEqual(blocks.covering(9, 2), { start: 0, end: 2 });
  assert.deepEqual(blocks.covering(90, 5), { start: 9, end: 10 });
  assert.deepEqual(blocks.covering(50, 0), { start: 0, end: 0 });
});

test("missing blocks that lie together are one request, up to two megabytes", () => {
  const here = new Set([3, 4, 9]);
  const blocks = new Blocks(12 * 2 ** 19, 2 ** 19);
  assert.deepEqual(
    blocks.missing({ start: 1, end: 12 }, (block) => !here.has(block)),
    [{ start: 1, end: 3 }, { start: 5, end: 9 }, { start: 10, end: 12 }],
  );
  assert.deepEqual(new Blocks(6 * 2 ** 19, 2 ** 19).missing({ start: 0, end: 6 }, () => true), [{ start: 0, end: 4 }, { start: 4, end: 6 }]);
});

test("reading ahead follows what is read together, and no more", () => {
  const MB = 2 ** 20;
  const size = 1000 * MB;
  const ahead = new ReadAhead();
  assert.deepEqual(ahead.next(0, MB, size), { offset: 0, length: MB }, "one read tells nothing");
  let fetched = 0;
  for (let at = MB; at < 100 * MB; at += MB) fetched = Math.max(fetched, ahead.next(at, MB, size).offset + ahead.next(at, MB, size).length);
  assert.ok(fetched > 110 * MB && fetched < 130 * MB, `${fetched / MB}`);
  assert.deepEqual(ahead.next(500 * MB, MB, size), { offset: 500 * MB, length: MB }, "a jump");
  const back = ahead.next(499.5 * MB, MB / 4, size);
  assert.ok(back.length > MB / 4, "going back a little");
  const end = ahead.next(500 * MB, MB, 501 * MB);
  assert.equal(end.offset + end.length, 501 * MB, "not past the end");
});

test("reads here and there bring nothing along", () => {
  const ahead = new ReadAhead();
  let extra = 0;
  for (let index = 0; index < 200; index += 1) {
    const { length } = ahead.next(((index * 7919) % 200) * 40e6, 1e6, 9e9);
    extra += length - 1e6;
  }
  assert.equal(extra, 0);
});

test("what was used lately stays, within the limit", () => {
  const recent = new Recent(30);
  for (const key of "abc") recent.put(key, new Uint8Array(10));
  recent.get("a");
  recent.put("d", new Uint8Array(10));
  assert.deepEqual(["a", "b", "c", "d"].map((key) => recent.get(key)?.length), [10, undefined, 10, 10]);
  recent.put("huge", new Uint8Array(31));
  assert.equal(recent.get("huge"), undefined);
  assert.equal(recent.bytes, 30);
  recent.setLimit(15);
  assert.equal(recent.bytes, 10);
});

test("lanes bound what is under way, and the urgent goes first", async () => {
  const lanes = new Lanes(2);
  const order = [];
  let [now, most] = [0, 0];
  const work = (name) => async () => {
    most = Math.max(most, (now += 1));
    await later();
    order.push(name);
    now -= 1;
  };
  const names = ["a", "b", "ahead1", "ahead2", "urgent"];
  await Promise.all(names.map((name) => lanes.run(!name.startsWith("ahead"), work(name))));
  assert.equal(most, 2);
  assert.ok(order.indexOf("urgent") < order.indexOf("ahead2"), order.join());
  await assert.rejects(lanes.run(true, () => Promise.reject(new Error("no"))));
  await lanes.run(true, work("after a failure"));
});

test("memory keeps what is read, once it is told to", async () => {
  const reads = [];
  const inner = { name: "x", local: false, read: async (file, offset, length) => (reads.push(offset), new Uint8Array(length)) };
  let fromMemory = 0;
  const memory = new MemoryTier(inner, 100, (bytes) => (fromMemory += bytes));
  await memory.read("f", 0, 40);
  assert.equal(memory.bytes, 0);
  memory.keeps = true;
  for (let time = 0; time < 3; time += 1) await memory.read("f", 0, 40);
  assert.deepEqual([reads.length, fromMemory, memory.bytes], [2, 80, 40]);
  await memory.read("f", 50, 40);
  await memory.read("f", 50, 40);
  await memory.read("f", 99, 40);
  assert.deepEqual([reads.length, fromMemory, memory.bytes], [4, 120, 80]);
});

test("content ranges are read and nonsense is not", () => {
  const range = (text) => contentRange(new Headers(text === undefined ? {} : { "content-range": text }));
  assert.deepEqual(range("bytes 5-9/20"), { start: 5, end: 10, size: 20 });
  assert.deepEqual(range("bytes 0-0/*"), { start: 0, end: 1, size: undefined });
  assert.deepEqual(range("bytes */0"), { start: undefined, end: undefined, size: 0 });
  for (const nonsense of [undefined, "", "bytes", "bytes 5-9", "bytes 9-5/20", "bytes a-b/c", "items 0-1/2"]) {
    assert.equal(range(nonsense), undefined, nonsense);
  }
});

test("versions contradict only where they can be compared", () => {
  const cases = [
    [{ etag: '"a"', lastModified: "Monday" }, { etag: '"a"', lastModified: "Tuesday" }, false, true],
    [{ etag: '"a"', lastModified: "Monday" }, { etag: '"b"', lastModified: "Monday" }, true, false],
    [{ etag: '"a"' }, { etag: 'W/"a"' }, false, true],
    [{ etag: '"a"', lastModified: "Monday" }, { lastModified: "Tuesday" }, true, false],
    [{ etag: '"a"' }, { lastModified: "Tuesday" }, false, false],
    [{}, {}, false, false],
  ];
  for (const [one, other, contradict, match] of cases) {
    assert.equal(contradicts(one, other), contradict);
    assert.equal(contradicts(other, one), contradict);
    assert.equal(matches(one, other), match);
  }
});

test("Retry-After is seconds or a date", () => {
  const after = (text) => retryAfter(new Headers({ "retry-after": text }), Date.parse("2026-01-01T00:00:00Z"));
  assert.equal(after("7"), 7000);
  assert.equal(after("Thu, 01 Jan 2026 00:00:30 GMT"), 30_000);
  assert.equal(after("soon"), undefined);
});

test("what is no description of a model is none", () => {
  assert.equal(parseModel(""), undefined);
  assert.equal(parseModel("null"), undefined);
  assert.equal(parseModel('{"format":2,"url":"u","files":{}}'), undefined);
  assert.equal(parseModel('{"format":1,"url":"u","files":{}}').url, "u");
});

test("speed is that of the last seconds", () => {
  const meter = new Meter();
  assert.deepEqual(meter.measure(0, 0, 1000), {});
  assert.deepEqual(meter.measure(100, 10, 1000), {}, "too soon to tell");
  assert.deepEqual(meter.measure(1000, 100, 1000), { bytesPerSecond: 100, secondsLeft: 9 });
  for (let second = 2; second <= 9; second += 1) meter.measure(1000 * second, 100, 1000);
  assert.deepEqual(meter.measure(10_000, 100, 1000), { bytesPerSecond: 0 }, "no time can be told for what stands still");
});

test("a stream gives what is pushed, in order, and then ends", async () => {
  const stream = new Stream(() => {});
  const taken = (async () => {
    const items = [];
    for await (const item of stream) items.push(item);
    return items;
  })();
  stream.push(1);
  await later();
  stream.push(2);
  stream.push(3);
  stream.finish();
  stream.push(4);
  assert.deepEqual(await taken, [1, 2, 3]);
});

test("whoever leaves the loop ends the stream's source; an error comes after what was there", async () => {
  let returned = 0;
  const left = new Stream(() => (returned += 1));
  left.push(1);
  left.push(2);
  for await (const _ of left) break;
  assert.equal(returned, 1);
  assert.deepEqual(await left.next(), { done: true, value: undefined });

  const failed = new Stream(() => (returned += 1));
  failed.push(1);
  failed.fail(new MoxelError("gpu", "lost"));
  assert.deepEqual(await failed.next(), { done: false, value: 1 });
  await assert.rejects(failed.next(), { code: "gpu" });
  assert.equal((await failed.next()).done, true);
  const waiting = new Stream(() => {});
  const [first, second] = [waiting.next(), waiting.next()];
  waiting.fail(new Error("no"));
  await assert.rejects(first, /no/);
  assert.equal((await second).done, true);
});

test("requests are computed one at a time, in order", async () => {
  const turns = new Turnstile();
  const log = [];
  const work = (name) => async () => {
    log.push(`${name} begins`);
    await later();
    log.push(`${name} ends`);
    return name;
  };
  const failed = turns.run(() => Promise.reject(new Error("no")));
  const results = ["a", "b", "c"].map((name) => turns.run(work(name)));
  await assert.rejects(failed);
  assert.deepEqual(await Promise.all(results), ["a", "b", "c"]);
  assert.deepEqual(log, ["a begins", "a ends", "b begins", "b ends", "c begins", "c ends"]);
});

test("a request that is aborted leaves the queue; one that runs keeps its turn until it has ended", async () => {
  const turns = new Turnstile();
  const [running, waiting] = [new AbortController(), new AbortController()];
  const log = [];
  const first = turns.run(async () => {
    await later(20);
    log.push("first ended");
  }, running.signal);
  const second = turns.run(async () => log.push("second"), waiting.signal);
  const third = turns.run(async () => log.push("third"));
  waiting.abort();
  await assert.rejects(second, { code: "aborted" });
  running.abort();
  await assert.rejects(first, { code: "aborted" });
  assert.deepEqual(log, []);
  await third;
  assert.deepEqual(log, ["first ended", "third"]);
  await assert.rejects(turns.run(async () => log.push("never"), AbortSignal.abort()), { code: "aborted" });
  assert.equal(log.length, 2);
});

test("a parameter that makes no sense is named", () => {
  const messages = [{ role: "user", content: "Hi" }];
  assert.deepEqual(chatRequest({ messages, stream: true, model: "x", temperature: 0.5 }), { messages, temperature: 0.5 });
  for (const [name, wrong] of [
    ["temperature", [-1, NaN, "1"]], ["top_p", [0, 1.1]], ["top_k", [-1, 1.5, 2 ** 32]], ["min_p", [2]], ["repetition_penalty", [0]],
    ["seed", [-1, 0.5, 2 ** 60]], ["max_tokens", [0, "8", 2 ** 32]], ["stop", ["", [""], 5, ["a", 1]]], ["stream", ["yes"]],
  ]) {
    for (const value of wrong) refuses(() => chatRequest({ messages, [name]: value }), new RegExp(`^${name} must be`));
  }
  for (const wrong of [[], "Hi", [{ role: "wizard", content: "" }], [{ role: "user" }], [null]]) {
    refuses(() => chatRequest({ messages: wrong }), /^messages must be/);
  }
  refuses(() => chatRequest({}), /messages is missing/);
  refuses(() => chatRequest(undefined), /object with messages/);
  refuses(() => chatRequest({ messages, frequency_penalty: 1 }), /frequency_penalty is not supported/);
  refuses(() => chatRequest({ messages, toString: 1 }), /toString is not supported/);
  assert.deepEqual(completionRequest({ prompt: [1, 2], stop: ["a"], seed: undefined }), { prompt: [1, 2], stop: ["a"] });
  for (const wrong of ["", [], [1.5], [-1], [2 ** 32]]) refuses(() => completionRequest({ prompt: wrong }), /^prompt must be/);
  for (const budget of ["auto", "50%", "12.5 %", "512MB", "2 GiB", "1048576", 0, 1e9]) checkLoad({ model: "x", expertBudget: budget });
  for (const budget of ["half", "50 percent", -1, "1e9", ""]) refuses(() => checkLoad({ model: "x", expertBudget: budget }), /^expertBudget/);
  refuses(() => checkLoad({ model: "x", contxt: 5 }), /contxt is not supported/);
  refuses(() => checkLoad({ model: "x", context: 2 ** 32 }), /^context must be/);
});

test("null is as good as leaving out", () => {
  const messages = [{ role: "user", content: "Hi", name: "Ada", refusal: null, tool_calls: undefined }];
  const nothing = { stop: null, stream: null, seed: null, max_tokens: null, temperature: null, top_p: null, tools: null };
  assert.deepEqual(chatRequest({ messages, ...nothing }), { messages: [{ role: "user", content: "Hi" }] });
  assert.deepEqual(completionRequest({ prompt: "x", ...nothing, stop: "a" }), { prompt: "x", stop: ["a"] });
  refuses(() => chatRequest({ messages: null }), /messages is missing/);
});

test("what a message says beyond its text is refused, not dropped", () => {
  for (const key of ["tool_calls", "tool_call_id", "refusal", "audio"]) {
    const messages = [{ role: "assistant", content: "", [key]: "x" }];
    for (const work of [() => chatRequest({ messages }), () => copyMessages(messages)]) refuses(work, new RegExp(`${key} is not supported`));
  }
});

test("requests are copies that can be sent, whatever the page's framework made of them", () => {
  /** As Vue and MobX do it. */
  const watched = (value) =>
    new Proxy(value, {
      get(target, key, receiver) {
        const found = Reflect.get(target, key, receiver);
        return typeof found === "object" && found !== null ? watched(found) : found;
      },
    });
  const chat = watched({ messages: [{ role: "user", content: "Hi" }], stop: ["a", "b"] });
  assert.throws(() => structuredClone({ ...chat }), { name: "DataCloneError" });
  const request = chatRequest(chat);
  assert.deepEqual(structuredClone(request), { messages: [{ role: "user", content: "Hi" }], stop: ["a", "b"] });
  chat.messages[0].content = "Bye";
  assert.equal(request.messages[0].content, "Hi");
  assert.deepEqual(structuredClone(completionRequest(watched({ prompt: [1, 2] }))), { prompt: [1, 2] });
  assert.deepEqual(structuredClone(copyTokens(watched([1, 2]), 1)), [1, 2]);
  assert.deepEqual(structuredClone(copyMessages(watched([{ role: "user", content: "" }]))), [{ role: "user", content: "" }]);
});

test("a location is a folder and what to open in it", () => {
  const place = (model, base) => {
    const { url, folder, query, entry } = locate(model, base);
    return [url, folder, query, entry];
  };
  const folder = "https://hub/org/model/resolve/main/";
  assert.deepEqual(place(`${folder}a%20b.gguf?token=s#x`), [`${folder}a%20b.gguf`, folder, "?token=s", "a b.gguf"]);
  assert.deepEqual(place(folder), [folder, folder, "", ""]);
  assert.deepEqual(place(folder.slice(0, -1)), [folder, folder, "", ""]);
  assert.deepEqual(place("models/x", "http://site/app/index.html"), ["http://site/app/models/x/", "http://site/app/models/x/", "", ""]);
  assert.deepEqual(place(new URL(`${folder}model-00001-of-00002.safetensors`)), [folder, folder, "", ""]);
  assert.deepEqual(place(`${folder}other.safetensors`), [`${folder}other.safetensors`, folder, "", "other.safetensors"]);
  for (const wrong of ["ftp://x/y", "https://me:secret@host/", "models/x", "file:///tmp/x"]) {
    refuses(() => locate(wrong), /^model is/);
    assert.throws(() => locate(wrong), (error) => !error.message.includes("secret") || wrong === "x");
  }
});

test("picked files are searched for one model, nearest to the top", () => {
  const file = (path) => {
    const made = new File(["x"], path.split("/").at(-1));
    Object.defineProperty(made, "webkitRelativePath", { value: path.includes("/") ? path : "" });
    return made;
  };
  const find = (...paths) => locate(paths.map(file));
  assert.equal(find("a.gguf").entry, "a.gguf");
  assert.equal(locate(file("a.gguf")).entry, "a.gguf");
  assert.equal(find("m-00002-of-00002.gguf", "m-00001-of-00002.gguf").entry, "m-00001-of-00002.gguf");
  const directory = find("m/original/config.json", "m/config.json", "m/model.safetensors", "m/original/x.gguf");
  assert.equal(directory.entry, "");
  assert.equal(directory.files.get("config.json").webkitRelativePath, "m/config.json");
  assert.equal(find("m/config.json", "m/x.gguf").entry, "x.gguf");
  const fails = (paths, pattern) => assert.throws(() => find(...paths), (error) => error.code === "read" && pattern.test(error.message));
  fails(["notes.txt"], /notes\.txt is no model/);
  fails(["m/a.gguf", "m/b.gguf"], /several models.*a\.gguf, b\.gguf/);
  fails(["m/config.json", "m/notes.txt"], /no model among/);
  refuses(() => locate([]), /^model must be/);
});
