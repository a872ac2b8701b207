// The parts of the page that decide and compute: no browser.

import assert from "node:assert/strict";
import { test } from "node:test";
import { application } from "./harness/library.mjs";

const {
  ask, askInstead, asJson, asMarkdown, bytes, colourOf, count, day, describe, duration, expertRows, fileName, meanAndDeviation,
  modelOfFiles, newConversation, someTokens, titleOf, withoutAnswer,
} = await application(
  "conversations/conversation.ts", "conversations/export.ts", "ui/format.ts", "models/picked.ts", "panel/expert-data.ts",
  "panel/colours.ts", "bench/measure.ts",
);

test("the first question names a conversation, until the user does", () => {
  const asked = ask(newConversation(), "What is water?\nTell me all.");
  assert.equal(asked.title, "What is water?");
  assert.equal(ask(asked, "And fire?").title, "What is water?");
  assert.equal(askInstead(asked, 0, "What is fire?").title, "What is fire?");
  assert.equal(askInstead({ ...asked, title: "Elements" }, 0, "What is fire?").title, "Elements");
  assert.equal(ask({ ...newConversation(), title: "Mine" }, "Hello").title, "Mine");
  assert.equal(titleOf("a".repeat(100)).length, 49);
  assert.equal(titleOf("words ".repeat(20)), `${"words ".repeat(8).slice(0, 47)}…`);
});

test("going back forgets what came after", () => {
  const answered = { ...ask(newConversation(), "One"), turns: [
    { role: "user", content: "One" }, { role: "assistant", content: "1" }, { role: "user", content: "Two" }, { role: "assistant", content: "2" },
  ] };
  assert.deepEqual(withoutAnswer(answered, 3).turns.map(({ content }) => content), ["One", "1", "Two"]);
  assert.deepEqual(askInstead(answered, 2, "Three").turns.map(({ content }) => content), ["One", "1", "Three"]);
  assert.equal(answered.turns.length, 4);
});

test("a conversation is exported for people and for programs", () => {
  const conversation = { ...newConversation(0), title: "Où est l'eau ?", turns: [{ role: "user", content: "Hi" }, { role: "assistant", content: "Hello!\n", tokens: 3 }] };
  assert.equal(asMarkdown(conversation), "# Où est l'eau ?\n\n**You**\n\nHi\n\n**Assistant**\n\nHello!\n");
  assert.deepEqual(JSON.parse(asJson(conversation)).messages, [{ role: "user", content: "Hi" }, { role: "assistant", content: "Hello!\n" }]);
  assert.equal(fileName(conversation, "md"), "où-est-l-eau.md");
  assert.equal(fileName({ ...conversation, title: "???" }, "json"), "conversation.json");
});

test("quantities are written as people read them", () => {
  assert.deepEqual([0, 999, 1000, 98_362_432, 999_600, 2 ** 31].map(bytes), ["0 B", "999 B", "1.0 kB", "98.4 MB", "1.0 MB", "2.1 GB"]);
  assert.deepEqual([7, 999, 1500, 245e6, 1.2e9].map(count), ["7", "999", "1.5 k", "245 M", "1.2 B"]);
  assert.deepEqual([0.2, 42, 200, 4800].map(duration), ["a second", "42 seconds", "3 minutes", "1 h 20 min"]);
  const noon = new Date(2026, 10, 22, 12).getTime();
  assert.equal(day(noon - 3_600_000, noon), "Today");
  assert.equal(day(noon - 86_400_000, noon), "Yesterday");
});

test("what was picked is a model, or a sentence says why not", () => {
  const file = (name, webkitRelativePath = "") => ({ name, webkitRelativePath });
  const one = file("Model.Q4.GGUF");
  assert.deepEqual(modelOfFiles([file("readme.md"), one]), { name: "Model.Q4", model: one });
  const split = [file("big-00001-of-00002.gguf"), file("big-00002-of-00002.gguf")];
  assert.deepEqual(modelOfFiles(split), { name: "big", model: split });
  const folder = [file("config.json", "models/tiny/config.json"), file("model.safetensors", "models/tiny/model.safetensors")];
  assert.deepEqual(modelOfFiles(folder), { name: "tiny", model: folder });
  assert.match(modelOfFiles([file("photo.png")]).problem, /GGUF/);
  assert.match(modelOfFiles([]).problem, /no files/);
});

test("the expert map counts what the engine counts", () => {
  const stats = (chosen) => ({ experts: { layers: [{ layer: 1, hits: 5, misses: 3, chosen }] }, resident: [[1, 0, 1]] });
  const [row] = expertRows({ expertsPerToken: 2 }, stats([4, 1, 3]), stats([4, 0, 3]));
  assert.deepEqual(row.cells.map(({ share }) => share), [1, 0.25, 0.75]);
  assert.deepEqual(row.cells.map(({ resident }) => resident), [true, false, true]);
  assert.deepEqual(row.cells.map(({ recent }) => recent), [false, true, false]);
  assert.equal(describe(row.cells[1]), "Layer 1, expert 1: chosen 1 time, by 25 % of the tokens; streamed when chosen");
  assert.deepEqual(expertRows({ expertsPerToken: 2 }, {}, undefined), []);
});

test("colours of the expert map go evenly from one lightness to the other", () => {
  const lightness = (colour) => {
    const linear = colour.match(/\d+/g).map((value) => (value / 255) ** 2.2);
    return 116 * (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]) ** (1 / 3) - 16;
  };
  for (const [dark, direction] of [[true, 1], [false, -1]]) {
    const steps = Array.from({ length: 21 }, (_, index) => lightness(colourOf(index / 20, dark)));
    for (let index = 1; index < steps.length; index += 1) {
      const step = direction * (steps[index] - steps[index - 1]);
      assert.ok(step > 1 && step < 9, `step ${index} of the ${dark ? "dark" : "light"} scale is ${step}`);
    }
  }
});

test("the benchmark has the command line's tokens and statistics", () => {
  assert.deepEqual(someTokens(4, 49152, 0), [1, 7920, 15839, 23758]);
  assert.ok(someTokens(1000, 97, 3).every((id) => id >= 0 && id < 97));
  assert.notEqual(someTokens(4, 49152, 1)[0], 1);
  assert.deepEqual(meanAndDeviation([3]), { mean: 3, deviation: 0 });
  const { mean, deviation } = meanAndDeviation([1, 2, 3, 4]);
  assert.equal(mean, 2.5);
  assert.ok(Math.abs(deviation - Math.sqrt(5 / 3)) < 1e-12);
});
