// Files that change on the server between visits, and while several tabs have the model: never a mixture, and no rubbish.

import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { library } from "./harness/library.mjs";
import { content, FakeServer } from "./harness/fake-server.mjs";
import { freshOrigin } from "./harness/fake-storage.mjs";

const { BlockMemory, ModelFolder, Network, WebSource } = await library(
  "tiers/network.ts", "tiers/web-source.ts", "tiers/block-file.ts", "tiers/disk.ts",
);

const PATIENCE = { attempts: 3, firstWait: 1, longestWait: 5, stall: 60 };
const ONE = "config.json";
const TWO = "model-00002.safetensors";
const ABSENT = "moxel.json";
const realFetch = globalThis.fetch;

let server, root;
beforeEach(() => {
  root = freshOrigin();
  server = new FakeServer();
  globalThis.fetch = server.fetch;
  publish("v1");
});
after(() => (globalThis.fetch = realFetch));

/** Puts another version of both files on the server. */
function publish(version, size = 700_000) {
  for (const name of [ONE, TWO]) server.files[name] = { bytes: content(size), etag: `"${name} ${version}"` };
}

/** A load of the model in a tab of its own. */
async function openTab() {
  const off = [];
  const disk = await ModelFolder.open("http://host/", { read() {}, spoilt() {}, off: (message) => off.push(message) });
  const network = new Network({ received() {}, answered() {}, retry() {} }, PATIENCE);
  return { source: new WebSource("http://host/", "", network, disk, new BlockMemory()), disk, off };
}

async function readAll({ source }, ...names) {
  for (const name of names) await source.read(name, 0, await source.size(name));
}

/** A whole visit. */
async function visit() {
  const tab = await openTab();
  await tab.source.size(ABSENT);
  await readAll(tab, ONE, TWO);
  await tab.disk.noteWhole();
  await tab.disk.drain();
  assert.deepEqual(tab.off, []);
  return tab;
}

/** What `model.json` says, and the folders that there are. */
async function stored() {
  const folder = [...[...root.entries.values()][0].entries.values()][0];
  const model = JSON.parse(await folder.entries.get("model.json").content.text());
  const folders = [...folder.entries.values()].filter(({ kind }) => kind === "directory").map(({ name }) => name);
  return { ...model, folders: folders.sort(), named: Object.values(model.files).flatMap((file) => file?.folder ?? []).sort() };
}

const silentFor = (...names) => ({ name }) => (names.includes(name) ? new Response("", { status: 503 }) : undefined);
const versionsOf = async ({ source }, ...names) => Promise.all(names.map((name) => source.version(name)));

test("a server that is silent from the first is done without", async () => {
  await visit();
  publish("v2");
  server.fault = silentFor(ONE, TWO, ABSENT);
  server.log = [];
  const tab = await openTab();
  assert.equal(await tab.source.size(ABSENT), undefined);
  assert.deepEqual(await versionsOf(tab, ONE, TWO), [`"${ONE} v1"`, `"${TWO} v1"`]);
  await readAll(tab, ONE, TWO);
  assert.equal(server.log.length, 1, "a model that is whole here is not waited for");
});

test("a server that falls silent after all was as it is known is done without too", async () => {
  await visit();
  server.fault = silentFor(TWO);
  const tab = await openTab();
  assert.deepEqual(await versionsOf(tab, ONE, TWO), [`"${ONE} v1"`, `"${TWO} v1"`]);
});

test("a server that falls silent after it had something new is an error", async () => {
  await visit();
  publish("v2");
  server.fault = silentFor(TWO);
  const tab = await openTab();
  assert.equal(await tab.source.version(ONE), `"${ONE} v2"`);
  await assert.rejects(tab.source.size(TWO), /503.*3 attempts/);
  server.fault = () => undefined;
  assert.equal(await tab.source.version(TWO), `"${TWO} v2"`, "and it is asked again");
});

test("a file that was there and is gone, or was not and is there, is something new", async () => {
  for (const change of [() => delete server.files[ONE], () => (server.files[ABSENT] = { bytes: content(9), etag: '"new"' })]) {
    root = freshOrigin();
    publish("v1");
    await visit();
    change();
    server.fault = silentFor(TWO);
    const tab = await openTab();
    await tab.source.size(ABSENT);
    await tab.source.size(ONE);
    await assert.rejects(tab.source.size(TWO), /503/);
    server.fault = () => undefined;
  }
});

test("a file of which the server says that it has changed does not stand, though it cannot be fetched", async () => {
  await visit();
  publish("v2");
  server.fault = ({ method }) => (method === "GET" ? new Response("", { status: 503 }) : undefined);
  await assert.rejects((await openTab()).source.size(ONE), /503.*3 attempts/);
});

test("what the server has anew is not added to what was taken unasked", async () => {
  const first = await openTab();
  await readAll(first, ONE);
  await first.disk.drain();
  publish("v2");
  server.fault = silentFor(ONE);
  const tab = await openTab();
  assert.equal(await tab.source.version(ONE), `"${ONE} v1"`);
  await assert.rejects(tab.source.size(TWO), /taken from the cache.*load the model again/);
});

test("a model that is not whole here is waited for", async () => {
  const first = await openTab();
  await readAll(first, ONE);
  await first.disk.drain();
  publish("v2");
  let busy = 2;
  server.fault = () => (busy-- > 0 ? new Response("", { status: 503 }) : undefined);
  assert.deepEqual(await versionsOf(await openTab(), ONE, TWO), [`"${ONE} v2"`, `"${TWO} v2"`]);
});

test("servers that cannot tell by HEAD are no news", async () => {
  await visit();
  server.fault = ({ method, name }) => (method === "HEAD" ? new Response(null, { status: 405 }) : silentFor(ABSENT)({ name }));
  const tab = await openTab();
  await readAll(tab, ONE);
  assert.equal(await tab.source.size(ABSENT), undefined);
});

test("the blocks of old versions and of files that are gone are removed", async () => {
  await visit();
  const before = await stored();
  assert.ok(before.whole);
  assert.deepEqual(before.folders, before.named);
  publish("v2");
  await visit();
  const changed = await stored();
  assert.deepEqual(changed.folders, changed.named);
  assert.ok(changed.whole && changed.folders.every((name) => !before.folders.includes(name)));
  delete server.files[TWO];
  const tab = await openTab();
  assert.equal(await tab.source.size(TWO), undefined);
  await tab.disk.drain();
  const gone = await stored();
  assert.equal(gone.files[TWO], null);
  assert.equal(gone.whole, false);
  assert.deepEqual(gone.folders, [gone.files[ONE].folder]);
});

test("files that the model's index no longer names are forgotten when it is whole", async () => {
  await visit();
  publish("v2");
  const tab = await openTab();
  await tab.source.size(ABSENT);
  await readAll(tab, ONE);
  await tab.disk.noteWhole();
  await tab.disk.drain();
  const { whole, files, folders, named } = await stored();
  assert.ok(whole);
  assert.deepEqual(Object.keys(files).sort(), [ONE, ABSENT].sort());
  assert.deepEqual(folders, named);
});

test("a tab with an old version changes nothing of what another tab has noted since", async () => {
  const old = await openTab();
  await readAll(old, ONE, TWO);
  await old.disk.drain();
  publish("v2");
  await visit();
  const fresh = await stored();
  old.disk.noteUse();
  await old.disk.noteWhole();
  await old.disk.drain();
  const { files, folders, named, whole } = await stored();
  assert.deepEqual(files, fresh.files);
  assert.ok(whole);
  assert.deepEqual(folders, named);
});

test("tabs that load at the same time note what each of them found", async () => {
  const tabs = await Promise.all([openTab(), openTab()]);
  await Promise.all([readAll(tabs[0], ONE), readAll(tabs[1], TWO)]);
  await Promise.all(tabs.map(({ disk }) => disk.drain()));
  const { files, folders, named } = await stored();
  assert.deepEqual(Object.keys(files).sort(), [ONE, TWO].sort());
  assert.equal(folders.length, 2);
  assert.deepEqual(folders, named);
});
