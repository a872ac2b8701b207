// A tiny golden checkpoint with a tokenizer and a chat template, so that it can be talked with: every byte is a token, and
// the rest of the vocabulary are words. The same as `tests/common/spoken.rs`.

import { cp, mkdir, readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { golden } from "./world.mjs";

const SPECIAL = ["<pad>", "<s>", "</s>"];
const TEMPLATE =
  "{% for message in messages %}{{ message.role }}: {{ message.content }}</s>{% endfor %}" +
  "{% if add_generation_prompt %}assistant: {% endif %}";

/** Copies the golden checkpoint `name` into `folder` and teaches it to spell; returns where it is. */
export async function spoken(name, folder) {
  const to = path.join(folder, name);
  await mkdir(to, { recursive: true });
  for (const file of ["config.json", "model.safetensors"]) await cp(path.join(golden(name), file), path.join(to, file));
  const { vocab_size: vocab } = JSON.parse(await readFile(path.join(to, "config.json"), "utf8"));
  await writeFile(path.join(to, "tokenizer.json"), JSON.stringify(tokenizer(vocab)));
  const config = { chat_template: TEMPLATE, eos_token: "</s>", bos_token: "<s>" };
  await writeFile(path.join(to, "tokenizer_config.json"), JSON.stringify(config));
  return to;
}

/** A byte-level `tokenizer.json` without merges. */
function tokenizer(vocab) {
  const spellings = [...SPECIAL, ...Array.from({ length: 256 }, (_, byte) => spelling(byte))];
  while (spellings.length < vocab) spellings.push(`Ġw${spellings.length}`);
  const flags = { special: true, single_word: false, lstrip: false, rstrip: false, normalized: false };
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: false, use_regex: false };
  return {
    version: "1.0",
    added_tokens: SPECIAL.map((content, id) => ({ id, content, ...flags })),
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: { type: "BPE", vocab: Object.fromEntries(spellings.map((token, id) => [token, id])), merges: [] },
  };
}

/** The character that stands for a byte in GPT-2's vocabulary and all byte-level ones since. */
function spelling(byte) {
  const printable = (b) => (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
  if (printable(byte)) return String.fromCodePoint(byte);
  return String.fromCodePoint(256 + Array.from({ length: byte }, (_, b) => b).filter((b) => !printable(b)).length);
}
