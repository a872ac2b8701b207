// What goes wrong around the page is said in a sentence, with a way on.

import assert from "node:assert/strict";
import { mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { ChatPage } from "./harness/chat-page.mjs";
import { cut, hold } from "./harness/faults.mjs";
import { dense } from "./harness/native.mjs";
import { golden, start } from "./harness/world.mjs";

let world, folder;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "moxel-page-"));
  await writeFile(path.join(folder, "text.gguf"), "<html>Not found</html>");
  world = await start({ models: { "SmolLM2-135M-Instruct.Q4_1.gguf": dense, broken: folder } });
});
after(async () => {
  await world?.close();
  await rm(folder, { recursive: true, force: true });
});

/** Opens the page with something that its worker runs first. Without a service worker: what that keeps passes by here. */
async function openWith(first) {
  const page = await world.context.newPage();
  await page.addInitScript(() => (ServiceWorkerContainer.prototype.register = () => Promise.reject(new Error("not in this test"))));
  await page.route("**/moxel-worker.js", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: `{${first}}\n${await response.text()}` });
  });
  await page.goto(`${world.site.url}/index.html`);
  return new ChatPage(page);
}

// The first two, before any page brings a service worker.
test("a lost GPU is recovered in mid-answer, and a dead worker is started again", async () => {
  // The page's own devices, caught where the worker asks for them.
  const chat = await openWith(`
    const request = GPUAdapter.prototype.requestDevice;
    GPUAdapter.prototype.requestDevice = async function (...rest) { return (self.device = await request.apply(this, rest)); };`);
  const { page } = chat;
  await chat.load("smollm2-135m");
  await chat.set({ temperature: 0, max_tokens: 10 });
  await chat.ask("What is the capital of France?");
  await chat.begun();
  await page.workers()[0].evaluate(() => self.device.destroy());
  await page.locator("#recovering", { hasText: "being recovered" }).waitFor();
  await chat.screenshot("gpu-lost");
  assert.match(await chat.answer(), /Paris/);
  await page.locator("#recovering").waitFor({ state: "hidden" });

  await chat.set({ max_tokens: 200 });
  await chat.ask("Write a long story.");
  await chat.begun();
  await page.workers()[0].evaluate(() => setTimeout(() => { throw new Error("out of memory"); }, 0));
  await page.locator("#engine-ended", { hasText: "worker" }).waitFor();
  await chat.screenshot("worker-ended");
  assert.match(await chat.note(), /worker/);
  await page.getByRole("button", { name: "Start again" }).click();
  await chat.ready();
  await chat.set({ max_tokens: 4 });
  await page.getByRole("button", { name: "Regenerate" }).last().click();
  await chat.answer();
  assert.equal(await page.getByRole("article", { name: "You" }).count(), 2);
  await page.close();
});

test("a model that does not fit says what to change", async () => {
  const chat = await openWith(`
    const { pushErrorScope, popErrorScope, createBuffer } = GPUDevice.prototype;
    const scopes = [];
    let used = 0;
    GPUDevice.prototype.createBuffer = function (it) { used += it.size; return createBuffer.call(this, it); };
    GPUDevice.prototype.pushErrorScope = function (filter) { scopes.push(filter); return pushErrorScope.call(this, filter); };
    GPUDevice.prototype.popErrorScope = async function () {
      const full = scopes.pop() === "out-of-memory" && used > 50e6;
      const error = await popErrorScope.call(this);
      return full ? new GPUOutOfMemoryError("50 MB are all there is") : error;
    };`);
  const { page } = chat;
  await page.locator("#load-options summary").click();
  await page.getByRole("spinbutton", { name: "Context" }).fill("1000");
  await page.locator('[data-model="smollm2-135m"]').click();
  await page.locator('#load-failure[data-code="too-small"]').waitFor({ timeout: 60_000 });
  await chat.screenshot("too-small");
  assert.match(await page.locator("#load-failure").innerText(), /smaller context/);
  await page.getByRole("button", { name: "Change the options" }).click();
  assert.equal(await page.getByRole("spinbutton", { name: "Context" }).inputValue(), "1000");
  await page.close();
});

test("a browser without WebGPU is told what to do", async () => {
  const page = await world.context.newPage();
  await page.addInitScript(() => Object.defineProperty(Navigator.prototype, "gpu", { get: () => undefined }));
  for (const address of ["/index.html", "/bench.html"]) {
    await page.goto(world.site.url + address);
    await page.getByRole("heading", { name: "No WebGPU here" }).waitFor();
    assert.match(await page.locator(".steps").innerText(), /Chrome 113/);
  }
  await page.goto(`${world.site.url}/index.html`);
  await page.locator("#no-webgpu").waitFor();
  await new ChatPage(page).screenshot("no-webgpu");
  await page.close();
});

test("what a model writes is shown, and does nothing", async () => {
  const chat = await ChatPage.open(world);
  const { page } = chat;
  const content = [
    "# Title\n\nA *word*, `code`, a [link](https://example.org/) and a [trap](javascript:window.harmed=1).",
    "<img src=x onerror='window.harmed=1'><script>window.harmed=1</script>",
    "![picture](https://example.org/x.png)",
    "```js\nconst one = 1;\n```",
    "| a | b |\n|---|---|\n| 1 | 2 |",
  ].join("\n\n");
  await page.evaluate(async (content) => {
    const open = indexedDB.open("moxel");
    await new Promise((resolve) => (open.onsuccess = resolve));
    const turns = [{ role: "user", content: "<b>Hello</b>" }, { role: "assistant", content, end: "stop" }];
    const kept = open.result.transaction("conversations", "readwrite");
    kept.objectStore("conversations").put({ id: "written", title: "Written", created: 0, updated: 0, turns });
    await new Promise((resolve) => (kept.oncomplete = resolve));
    location.hash = "#/chat/written";
  }, content);
  await page.reload();
  const answer = page.getByRole("article", { name: "Assistant" });
  await answer.getByRole("heading", { name: "Title" }).waitFor();
  assert.equal(await page.getByRole("article", { name: "You" }).innerText(), "<b>Hello</b>");
  assert.deepEqual(await answer.locator("a[href]").evaluateAll((links) => links.map(({ href, rel }) => [href, rel])), [
    ["https://example.org/", "noopener noreferrer"],
    ["https://example.org/x.png", "noopener noreferrer"],
  ]);
  assert.equal(await answer.locator(".answer-text :is(img, script)").count(), 0);
  assert.match(await answer.innerText(), /<script>window\.harmed=1<\/script>/);
  assert.equal(await answer.locator("table td").count(), 2);
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await answer.getByRole("button", { name: "Copy code" }).click();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "const one = 1;");
  assert.equal(await page.evaluate(() => window.harmed), undefined);
  await page.close();
});

test("what is no model is refused, and another one can be chosen", async () => {
  const chat = await ChatPage.open(world);
  const { page } = chat;
  const address = page.getByRole("textbox", { name: "Model address" });
  await address.fill("model.gguf");
  await page.locator("#load-url").click();
  assert.match(await page.getByRole("alert").innerText(), /https:/);
  await address.fill("/models/broken/text.gguf");
  await page.locator("#load-url").click();
  await page.locator('#load-failure[data-code="format"]').waitFor();
  assert.match(await page.locator("#load-failure").innerText(), /text\.gguf: .*GGUF/);
  await chat.screenshot("bad-file");
  await page.locator("#choose-other").click();
  await page.locator("#pick-file").setInputFiles(path.join(folder, "text.gguf"));
  await page.locator('#load-failure[data-code="format"]').waitFor();
  await page.locator("#choose-other").click();
  await page.locator("#pick-folder").setInputFiles(golden("scout"));
  await chat.ready();
  assert.match(await page.getByRole("textbox", { name: "Message" }).getAttribute("placeholder"), /no chat template/);
  await page.close();
});

test("a load that was cancelled or cut off goes on where it ended", async () => {
  // Other tests have left the model in the browser.
  const application = await world.page();
  await application.evaluate(() => Moxel.cache.clear());
  const chat = await ChatPage.open(world);
  const { page } = chat;
  // However fast the machine is, it is not done before the button is pressed.
  world.site.fault = hold({ after: 30_000_000 });
  await page.locator('[data-model="smollm2-135m"]').click();
  await page.locator("#load-bytes", { hasText: /^[1-9]\d\.\d MB/ }).waitFor();
  await page.getByRole("button", { name: "Cancel" }).click();
  await page.locator("#cached-models li", { hasText: "is fetched when it is needed" }).waitFor();
  world.site.fault = cut({ after: 5_000_000 });
  await page.getByRole("button", { name: "Resume" }).click();
  await page.locator("#load-retry", { hasText: "Trying again" }).waitFor({ timeout: 60_000 });
  await chat.screenshot("retry");
  await page.getByRole("button", { name: "Resume" }).waitFor({ timeout: 180_000 });
  await chat.screenshot("network-lost");
  const [{ bytes: kept }] = await application.evaluate(() => Moxel.cache.list());
  assert.ok(kept > 5e6, `${kept} bytes were kept`);
  world.site.fault = () => false;
  world.site.log.length = 0;
  await page.getByRole("button", { name: "Resume" }).click();
  await chat.ready();
  const sent = world.site.weights().reduce((sum, { bytes }) => sum + bytes, 0);
  const { size } = await stat(dense);
  assert.ok(sent <= size - kept, `${sent} of ${size} bytes were sent with ${kept} kept`);
  await page.close();
  await application.close();
});
