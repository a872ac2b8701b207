// The benchmark page measures, checks what the model says, and exports what `moxel bench` would.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { ChatPage } from "./harness/chat-page.mjs";
import { dense, nativeTokens } from "./harness/native.mjs";
import { start } from "./harness/world.mjs";

const NAMES = ["model", "model_size", "model_n_params", "backend", "adapter", "kernels", "test", "tokens_per_second", "stddev", "samples"];

let world, bench;
before(async () => {
  world = await start({ models: { "SmolLM2-135M-Instruct.Q4_1.gguf": dense } });
  bench = await ChatPage.open(world, "/bench.html");
});
after(() => world?.close());

async function run(settings) {
  const { page } = bench;
  await page.getByRole("combobox", { name: "Model", exact: true }).selectOption("smollm2-135m");
  for (const [name, value] of Object.entries(settings)) await page.getByRole("spinbutton", { name }).fill(String(value));
  await page.getByRole("button", { name: "Run" }).click();
}

test("figures, the check of the output, and a row for each test", async () => {
  const { page } = bench;
  await run({ "Prompt tokens": 16, "Generated tokens": 4, Repetitions: 2 });
  await page.locator("#bench-verdict").waitFor({ timeout: 240_000 });
  await bench.screenshot("bench");
  assert.equal(await page.locator("#bench-verdict").getAttribute("data-same"), "true");
  assert.deepEqual(await page.locator("#bench-table tbody th").allInnerTexts(), ["pp16", "tg4"]);
  assert.match(await page.locator("#bench-chart").getAttribute("aria-label"), /^pp16: [\d.]+ tokens per second, tg4/);

  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Export JSON" }).click()]);
  const { rows, output, browser } = JSON.parse(await readFile(await download.path(), "utf8"));
  assert.match(browser, /Chrom/);
  for (const row of rows) {
    assert.deepEqual(Object.keys(row), NAMES);
    assert.equal(row.samples.length, 2);
    assert.ok(row.tokens_per_second > 0 && row.adapter !== "");
  }
  assert.deepEqual(output.got, await nativeTokens(dense, "1, 2, 3, 4, 5,", 16));
});

test("another output is noticed", async () => {
  const { page } = bench;
  await page.evaluate(() => {
    const { fetch } = window;
    window.fetch = async (...request) => {
      const answer = await fetch(...request);
      if (request[0] !== "bench-expected.json") return answer;
      const known = await answer.json();
      known[0].ids[15] += 1;
      return new Response(JSON.stringify(known));
    };
  });
  await run({ "Prompt tokens": 0, "Generated tokens": 2, Repetitions: 1 });
  await page.locator('#bench-verdict[data-same="false"]').waitFor({ timeout: 240_000 });
  assert.match(await page.locator("#bench-verdict").innerText(), /wrong/);
});

test("a run can be stopped, and nothing to measure is said", async () => {
  const { page } = bench;
  await run({ "Prompt tokens": 0, "Generated tokens": 0 });
  assert.match(await page.locator("#bench-status").innerText(), /nothing to measure/);
  await run({ "Prompt tokens": 64, "Generated tokens": 64, Repetitions: 50 });
  await page.locator("#bench-status", { hasText: "Measuring" }).waitFor({ timeout: 120_000 });
  await page.getByRole("button", { name: "Stop" }).click();
  await page.locator("#bench-status", { hasText: "Stopped." }).waitFor({ timeout: 60_000 });
});
