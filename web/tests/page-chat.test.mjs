// The chat page with a real model: asking, stopping, editing, keeping, and all of it again without a network.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { ChatPage } from "./harness/chat-page.mjs";
import { dense } from "./harness/native.mjs";
import { start } from "./harness/world.mjs";

const FRANCE = "What is the capital of France?";

let world, chat, first;
before(async () => {
  world = await start({ models: { "SmolLM2-135M-Instruct.Q4_1.gguf": dense } });
  chat = await ChatPage.open(world);
});
after(() => world?.close());

test("a model is chosen, downloaded, and answers piece by piece", async () => {
  await chat.page.getByRole("heading", { name: "Choose a model" }).waitFor();
  await chat.page.locator('[data-model="smollm2-135m"]').waitFor();
  await chat.screenshot("choose");
  await chat.page.locator('[data-model="smollm2-135m"]').click();
  await chat.page.locator("#load-bytes", { hasText: "MB of" }).waitFor();
  await chat.screenshot("loading");
  await chat.ready();
  await chat.set({ temperature: 0, max_tokens: 10 });
  const grown = chat.page.evaluate(() => {
    const lengths = new Set();
    new MutationObserver(() => lengths.add(document.querySelector(".answer-text")?.textContent.length)).observe(document.body, {
      subtree: true, childList: true, characterData: true,
    });
    return new Promise((resolve) => {
      const timer = setInterval(() => {
        if (!document.querySelector(".answer:not([aria-busy])")) return;
        clearInterval(timer);
        resolve(lengths.size);
      }, 50);
    });
  });
  await chat.ask(FRANCE);
  first = await chat.answer();
  assert.match(first, /Paris/);
  assert.ok((await grown) > 4, "the answer came in one piece");
  assert.match(await chat.page.locator(".figures").innerText(), /SmolLM2 .* tokens?/);
  assert.match(await chat.page.locator("#announcer").innerText(), /^Answer: .*Paris/);
  await chat.screenshot("answered");
});

test("settings hold: a greedy answer is the same again, and no longer than allowed", async () => {
  await chat.page.getByRole("button", { name: "Regenerate" }).click();
  assert.equal(await chat.answer(), first);
  await chat.set({ max_tokens: 2 });
  await chat.page.getByRole("button", { name: "Regenerate" }).click();
  assert.ok(first.startsWith(await chat.answer()));
  assert.match(await chat.note(), /cut/);
  await chat.page.getByRole("button", { name: "Settings for answers" }).click();
  await chat.screenshot("settings");
  await chat.page.keyboard.press("Escape");
});

test("Esc stops an answer, and what there is of it stays", async () => {
  await chat.set({ max_tokens: 300 });
  await chat.ask("Write a long story about a ship.");
  await chat.begun();
  await chat.page.keyboard.press("Escape");
  await chat.answer();
  assert.equal(await chat.note(), "Stopped.");
});

test("an edited question goes on from there", async () => {
  await chat.set({ max_tokens: 3 });
  const question = chat.page.getByRole("article", { name: "You" }).first();
  await question.hover();
  await question.getByRole("button", { name: "Edit" }).click();
  await chat.page.getByRole("textbox", { name: "Edit message" }).fill("What is the capital of Spain?");
  await chat.page.getByRole("button", { name: "Save and send" }).click();
  await chat.answer();
  assert.equal(await chat.page.getByRole("article").count(), 2);
  assert.deepEqual(await chat.conversations(), ["What is the capital of Spain?"]);
});

test("conversations are renamed, exported and kept, and other tabs know", async () => {
  await chat.menu("Rename");
  await chat.page.getByRole("textbox", { name: "Title" }).fill("Capitals");
  await chat.page.keyboard.press("Enter");
  const [download] = await Promise.all([chat.page.waitForEvent("download"), chat.menu("Export as JSON")]);
  assert.equal(download.suggestedFilename(), "capitals.json");
  const exported = JSON.parse(await readFile(await download.path(), "utf8"));
  assert.deepEqual(exported.messages.map(({ role }) => role), ["user", "assistant"]);

  const second = await ChatPage.open(world);
  assert.deepEqual(await second.conversations(), ["Capitals"]);
  await second.menu("Rename");
  await second.page.getByRole("textbox", { name: "Title" }).fill("Countries");
  await second.page.keyboard.press("Enter");
  await chat.page.locator(".conversation", { hasText: "Countries" }).waitFor();
  await second.page.close();
});

test("without a network the page, the conversation and the model are there again", async () => {
  await chat.page.waitForFunction(() => navigator.serviceWorker.controller !== null);
  await world.site.close();
  world.site.log.length = 0;
  await chat.page.reload();
  assert.deepEqual(await chat.page.getByRole("article", { name: "You" }).allInnerTexts(), ["What is the capital of Spain?"]);
  await chat.page.getByRole("button", { name: "Choose a model" }).last().click();
  const cached = chat.page.locator("#cached-models li", { hasText: "SmolLM2" });
  await cached.getByRole("button", { name: "Load", exact: true }).click();
  await chat.ready();
  await chat.ask("And of Italy?");
  await chat.answer();
  assert.deepEqual(world.site.log, []);
  await world.site.open();
});

test("what is kept can be removed", async () => {
  await chat.menu("Delete");
  await chat.page.locator("#confirm").getByRole("button", { name: "Delete" }).click();
  await chat.page.getByText("Conversations appear here.").waitFor();
  await chat.page.locator("#model-button").click();
  await chat.page.getByRole("button", { name: /^Remove SmolLM2/ }).click();
  await chat.page.locator("#confirm").getByRole("button", { name: "Remove" }).click();
  await chat.page.locator("#cached-models").waitFor({ state: "hidden" });
});
