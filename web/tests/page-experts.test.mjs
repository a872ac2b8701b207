// The page with a mixture of experts: the engine panel, the expert map, and the budget that is changed while one chats.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ChatPage } from "./harness/chat-page.mjs";
import { moe } from "./harness/native.mjs";
import { start } from "./harness/world.mjs";

let world, chat, full;
before(async () => {
  world = await start({ models: { "demo-moe": moe } });
  chat = await ChatPage.open(world);
  await chat.page.locator("#load-options summary").click();
  await chat.page.getByLabel("Expert budget").fill("100%");
  await chat.page.getByRole("spinbutton", { name: "Context" }).fill("512");
  await chat.page.getByRole("checkbox", { name: "Keep the model" }).uncheck();
  await chat.load("demo-moe");
  await chat.set({ temperature: 0, max_tokens: 8 });
});
after(() => world?.close());

/** The rows of the table beside the map: [layer, on the GPU, hits, misses, hit rate, most chosen]. */
async function table() {
  const rows = await chat.page.locator("#expert-table tbody tr").all();
  return Promise.all(rows.map(async (row) => (await row.locator("th, td").allInnerTexts())));
}

/** The panel is told of the last token a moment after it. */
const settled = () => chat.page.waitForTimeout(2500);

test("the panel shows the engine and where its bytes came from", async () => {
  const { page } = chat;
  await page.getByRole("button", { name: "Engine panel" }).click();
  await chat.ask("What is the capital of France?");
  full = await chat.answer();
  assert.match(full, /Paris/);
  await settled();
  assert.match(await chat.figure("figure-speed", "Generation"), /tokens\/s/);
  assert.notEqual(await chat.figure("figure-adapter", "Name"), "");
  assert.equal(await chat.figure("figure-experts", "Misses"), "0");
  const network = world.site.weights().reduce((sum, { bytes }) => sum + bytes, 0);
  const shown = Number.parseFloat(await chat.figure("figure-read", "From the network")) * 1e6;
  assert.ok(Math.abs(shown - network) < 0.02 * network, `the page shows ${shown} bytes, the server sent ${network}`);
  await page.locator(".map-table summary").click();
  // It is made when the browser tells that it was opened, a moment later.
  await page.locator("#expert-table tbody tr").nth(14).waitFor();
  const rows = await table();
  assert.equal(rows.length, 15);
  for (const [layer, resident] of rows) assert.equal(resident, "8 of 8", `layer ${layer}`);
  assert.match(await page.locator("#expert-map").getAttribute("aria-label"), /120 of 120 on the GPU/);
});

test("a smaller budget takes effect while one chats, and the answer is the same", async () => {
  const { page } = chat;
  const slider = page.getByRole("slider", { name: "Experts on the GPU" });
  await slider.fill("25");
  await page.locator("#budget-plan", { hasText: /^30 of 120/ }).waitFor({ timeout: 60_000 });
  await page.getByRole("button", { name: "Regenerate" }).click();
  await page.locator(".answer.begun").waitFor({ timeout: 60_000 });
  await chat.screenshot("expert-map-streaming");
  assert.equal(await chat.answer(), full);
  await settled();
  assert.ok(Number(await chat.figure("figure-experts", "Misses")) > 0);
  const resident = (await table()).reduce((sum, [, of]) => sum + Number.parseInt(of, 10), 0);
  assert.ok(resident <= 30, `${resident} experts are on the GPU`);
  await chat.screenshot("expert-map");
  await page.getByRole("button", { name: "Theme: as the system" }).click();
  await page.getByRole("button", { name: "Theme: light" }).click();
  await chat.screenshot("expert-map-dark");
});

test("the map is read with the keyboard", async () => {
  await chat.page.locator("#expert-map").focus();
  await chat.page.keyboard.press("ArrowRight");
  await chat.page.keyboard.press("ArrowRight");
  await chat.page.keyboard.press("ArrowDown");
  assert.match(await chat.page.locator("#expert-tip").innerText(), /^Layer 3, expert 1: /);
});

test("all of it fits on a phone", async () => {
  const { page } = chat;
  await page.setViewportSize({ width: 360, height: 740 });
  await chat.screenshot("phone-panel");
  await page.keyboard.press("Escape");
  await page.locator("#engine-panel").waitFor({ state: "hidden" });
  await chat.screenshot("phone-chat");
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
  await page.getByRole("button", { name: "Conversations", exact: true }).click();
  await chat.screenshot("phone-conversations");
  await page.keyboard.press("Escape");
  await page.locator("#model-button").click();
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 360);
  await chat.screenshot("phone-choose");
});
