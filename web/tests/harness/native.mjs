// What the command line says about the same model, and where the demo models are.

import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { repository } from "./world.mjs";
import { readSafetensors } from "./safetensors.mjs";

const run = promisify(execFile);

/** Made by native-demo/get-model.sh and native-demo/get-demo-moe.sh. */
export const dense = made("SmolLM2-135M-Instruct.Q4_1.gguf");
export const moe = made("demo-moe");

function made(name) {
  const file = path.join(repository, "models", name);
  if (!existsSync(file)) throw new Error(`${file} is missing; native-demo/get-demo-moe.sh makes it`);
  return file;
}

async function moxel(...parameters) {
  const { stdout } = await run(path.join(repository, "target/release/moxel"), parameters, {
    env: { XDG_RUNTIME_DIR: tmpdir(), ...process.env },
    maxBuffer: 1 << 26,
  });
  return stdout;
}

/** The ids that the command line generates greedily after these. */
export async function nativeTokens(model, prompt, count) {
  const said = await moxel(
    "generate", model, "--prompt", prompt, "--max-tokens", String(count), "--temperature", "0", "--precision", "exact", "--json",
  );
  return JSON.parse(said).token_ids;
}

/** The logits after each of these tokens. */
export async function nativeLogits(model, tokens) {
  const folder = await mkdtemp(path.join(tmpdir(), "moxel-logits-"));
  try {
    const out = path.join(folder, "logits.safetensors");
    await moxel("logits", model, "--tokens", tokens.join(","), "--out", out, "--precision", "exact");
    return (await readSafetensors(out)).tensors.logits.data;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
