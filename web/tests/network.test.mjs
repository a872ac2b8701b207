// Reading files of servers, good ones and others.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";
import { library } from "./harness/library.mjs";
import { content, FakeServer } from "./harness/fake-server.mjs";

const { BlockMemory, Network, Unanswered, WebSource } = await library(
  "tiers/network.ts", "tiers/patience.ts", "tiers/web-source.ts", "tiers/block-file.ts",
);

const SIZE = 3_000_001;
const PATIENCE = { attempts: 3, firstWait: 1, longestWait: 5, stall: 60 };
const realFetch = globalThis.fetch;

let server, told, source, network, received;
beforeEach(() => {
  server = new FakeServer();
  server.files["model.gguf"] = { bytes: content(SIZE), etag: '"one"' };
  globalThis.fetch = server.fetch;
  told = [];
  received = 0;
  network = new Network(
    { received: (bytes) => (received += bytes), answered() {}, retry: (...retry) => told.push(retry) },
    PATIENCE,
  );
  source = new WebSource("http://host/", "", network, undefined, new BlockMemory());
});
afterEach(() => (globalThis.fetch = realFetch));

async function readsAll(file = "model.gguf", step = 700_000) {
  const { bytes } = server.files[file];
  assert.equal(await source.size(file), bytes.length);
  for (let at = 0; at < bytes.length; at += step) {
    const length = Math.min(step, bytes.length - at);
    assert.deepEqual(await source.read(file, at, length), bytes.slice(at, at + length));
  }
}

const rejects = (promise, pattern) => assert.rejects(promise, (error) => (assert.match(error.message, pattern), error.code === "read"));

test("ranges make up the file, and no byte is fetched twice", async () => {
  await readsAll();
  assert.equal(received, SIZE);
  assert.deepEqual(told, []);
});

test("many reads at once are few requests at a time, and share blocks", async () => {
  const reads = Array.from({ length: 60 }, (_, index) => source.read("model.gguf", index * 50_000, 50_001));
  for (const [index, bytes] of (await Promise.all(reads)).entries()) {
    assert.deepEqual(bytes, server.files["model.gguf"].bytes.slice(index * 50_000, index * 50_000 + 50_001));
  }
  assert.equal(received, SIZE);
  assert.ok(server.mostInFlight <= 6, `${server.mostInFlight} at once`);
});

test("a body that breaks off is taken up where it ended", async () => {
  server.breaks = [undefined, 300_000, 100_000];
  await readsAll();
  assert.equal(received, SIZE);
  assert.equal(told.length, 2);
});

test("a file that is not there is none, and neither is a page in its place", async () => {
  assert.equal(await source.size("moxel.json"), undefined);
  server.fault = () => new Response("<html>", { headers: { "content-type": "text/html; charset=utf-8" } });
  assert.equal(await source.size("config.json"), undefined);
  await rejects(source.read("moxel.json", 0, 1), /no such file/);
});

test("a busy server is asked again, after the time that it asks for", async () => {
  let busy = 2;
  server.fault = () => (busy-- > 0 ? new Response("", { status: 503, headers: { "retry-after": "0" } }) : undefined);
  await readsAll();
  assert.deepEqual(told.map(([, attempt]) => attempt), [2, 3]);
});

test("a server that stays busy, or refuses, is named as such", async () => {
  server.fault = () => new Response("", { status: 503 });
  await assert.rejects(source.size("model.gguf"), (error) => error instanceof Unanswered && /503.*3 attempts/.test(error.message));
  server.fault = () => new Response("", { status: 403, statusText: "Forbidden" });
  await rejects(source.size("model.gguf"), /answered 403 \(Forbidden\)/);
});

test("an address without a server is not tried again", async () => {
  server.fault = () => {
    throw new TypeError("fetch failed");
  };
  await rejects(source.size("model.gguf"), /cannot be reached/);
  assert.equal(server.log.length, 1);
});

test("a network that is gone for a moment is waited for", async () => {
  await source.size("model.gguf");
  let gone = 2;
  server.fault = () => {
    if (gone-- > 0) throw new TypeError("fetch failed");
  };
  await readsAll();
  assert.equal(told.length, 2);
});

test("a server that says nothing is given up", async () => {
  await source.size("model.gguf");
  server.fault = ({ signal }) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(new Error("aborted"))));
  await rejects(source.read("model.gguf", 2_000_000, 10), /stalled for 0.06 seconds/);
});

test("a file that changes meanwhile is an error, whatever tells it", async () => {
  const file = server.files["model.gguf"];
  for (const change of [{ etag: '"two"' }, { etag: undefined, bytes: content(SIZE + 1) }]) {
    server.files["model.gguf"] = file;
    source = new WebSource("http://host/", "", network, undefined, new BlockMemory());
    await source.size("model.gguf");
    server.files["model.gguf"] = { ...file, ...change };
    await rejects(source.read("model.gguf", 1_000_000, 1_000_000), /changed on the server/);
  }
});

test("other bytes than those asked for are an error", async () => {
  await source.size("model.gguf");
  const lies = { "content-range": `bytes 0-99/${SIZE}` };
  server.fault = () => new Response(new Uint8Array(100), { status: 206, headers: lies });
  await rejects(source.read("model.gguf", 1_000_000, 100), /sent others/);
  server.fault = () => new Response(new Uint8Array(3_000_000), { status: 206 });
  await rejects(source.read("model.gguf", 1_000_000, 100), /more bytes than it was asked for/);
});

test("servers without ranges: files are streamed whole, once", async () => {
  server.ranges = false;
  server.breaks = [undefined, 1_200_000];
  await readsAll();
  assert.equal(server.log.filter(({ method }) => method === "GET").length, 3, "the search, a broken stream, a whole one");
  await readsAll();
  assert.equal(server.log.length, 3);
});

test("small files of servers without ranges come with the search", async () => {
  server.ranges = false;
  server.files["config.json"] = { bytes: content(600_000), etag: '"c"' };
  await readsAll("config.json", 123_456);
  assert.equal(server.log.length, 1);
});

test("a server that hides Content-Range is asked for the size", async () => {
  server.fault = ({ method, range }) => {
    if (method === "HEAD") return undefined;
    const [start, last] = range.slice(6).split("-").map(Number);
    return new Response(server.files["model.gguf"].bytes.slice(start, last + 1), { status: 206 });
  };
  await readsAll();
});

test("names that lead out of the folder are refused; others are escaped", async () => {
  for (const name of ["../secret", "a/b", "..", "", "a\\b"]) await rejects(source.size(name), /leads out/);
  server.files["100% #1?.gguf"] = { bytes: content(10) };
  await readsAll("100% #1?.gguf");
  assert.equal(await source.size("empty"), undefined);
  server.files["empty"] = { bytes: content(0) };
  source = new WebSource("http://host/", "", network, undefined, new BlockMemory());
  assert.equal(await source.size("empty"), 0);
  await rejects(source.read("empty", 0, 1), /has 0 bytes/);
});

test("files beyond what 32 bits count", async () => {
  const size = 5_000_000_003;
  const at = (index) => (index * 7) % 251;
  const bytes = { length: size, subarray: (start, end) => Uint8Array.from({ length: end - start }, (_, index) => at(start + index)) };
  server.files["huge.gguf"] = { bytes, etag: '"huge"' };
  assert.equal(await source.size("huge.gguf"), size);
  for (const offset of [2 ** 31 - 3, 2 ** 32 - 3, size - 7]) {
    assert.deepEqual([...(await source.read("huge.gguf", offset, 7))], Array.from({ length: 7 }, (_, index) => at(offset + index)));
  }
  await rejects(source.read("huge.gguf", size - 6, 7), /has 5000000003 bytes/);
  server.ranges = false;
  source = new WebSource("http://host/", "", network, undefined, new BlockMemory());
  server.fault = ({ name }) =>
    name === "huge.gguf" ? new Response(new ReadableStream(), { headers: { "content-length": String(size) } }) : undefined;
  await rejects(source.read("huge.gguf", 0, 1), /whole files only, and 5\.0 GB cannot be kept/);
});

test("whether a file is still the same is asked without its bytes, where the server can tell", async () => {
  const head = { size: SIZE, version: { etag: '"one"' }, ranges: true };
  const url = "http://host/model.gguf";
  assert.equal(await network.isSame(url, head, true), true);
  assert.equal(await network.isSame(url, { ...head, size: SIZE + 1 }, true), false);
  assert.equal(await network.isSame(url, { ...head, version: { etag: '"two"' } }, true), false);
  assert.equal(await network.isSame(url, { ...head, version: { lastModified: "Monday" } }, true), false, "nothing to compare");
  assert.equal(received, 0);
  server.fault = () => new Response("", { status: 405 });
  assert.equal(await network.isSame(url, head, true), false);
  server.fault = () => new Response("", { status: 503 });
  await assert.rejects(network.isSame(url, head, true), (error) => error instanceof Unanswered);
});

test("an address that the server sends on is gone to directly, until it is no good any more", async () => {
  const { bytes } = server.files["model.gguf"];
  server.files = { "signed-1": { bytes, etag: '"one"' } };
  let signed = "signed-1";
  const asked = [];
  globalThis.fetch = async (url, options) => {
    asked.push(new URL(url).pathname);
    if (!url.endsWith("/model.gguf")) return server.fetch(url, options);
    const answer = await server.fetch(`http://host/${signed}`, options);
    Object.defineProperties(answer, { redirected: { value: true }, url: { value: `http://host/${signed}` } });
    return answer;
  };
  const url = "http://host/model.gguf";
  const found = await network.find(url, 100, false);
  await network.fetch(url, found, 100, 200, true);
  server.files = { "signed-2": { bytes, etag: '"one"' } };
  signed = "signed-2";
  assert.deepEqual(await network.fetch(url, found, 200, 300, true), bytes.slice(200, 300));
  assert.deepEqual(asked, ["/model.gguf", "/signed-1", "/signed-1", "/model.gguf"]);
});

test("the harness notices a wrong byte", async () => {
  server.fault = async ({ range }) => {
    const [start, last] = range.slice(6).split("-").map(Number);
    const bytes = server.files["model.gguf"].bytes.slice(start, last + 1);
    if (start > 0) bytes[5] ^= 1;
    return new Response(bytes, { status: 206 });
  };
  await assert.rejects(readsAll("model.gguf", SIZE));
});
