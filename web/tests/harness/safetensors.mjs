// Reads the tensors that other programs computed.

import { readFile } from "node:fs/promises";

const ARRAYS = { F32: Float32Array, I32: Int32Array };

/** The tensors of a file as `{ name: { shape, data } }`, and its metadata. */
export async function readSafetensors(file) {
  const bytes = await readFile(file);
  const length = Number(bytes.readBigUInt64LE(0));
  const { __metadata__: metadata = {}, ...header } = JSON.parse(bytes.toString("utf8", 8, 8 + length));
  const tensors = {};
  for (const [name, { dtype, shape, data_offsets: [begin, end] }] of Object.entries(header)) {
    // A copy, because a typed array wants its bytes aligned.
    const raw = bytes.buffer.slice(bytes.byteOffset + 8 + length + begin, bytes.byteOffset + 8 + length + end);
    tensors[name] = { shape, data: new ARRAYS[dtype](raw) };
  }
  return { tensors, metadata };
}

/** The standard deviation of numbers. */
export function deviation(numbers) {
  const mean = numbers.reduce((sum, x) => sum + x, 0) / numbers.length;
  return Math.sqrt(numbers.reduce((sum, x) => sum + (x - mean) ** 2, 0) / numbers.length);
}

/** The largest distance of two lists of numbers; NaN where one holds a NaN. */
export function distance(a, b) {
  if (a.length !== b.length) throw new Error(`${a.length} numbers against ${b.length}`);
  let most = 0;
  for (let i = 0; i < a.length; i += 1) most = Math.max(most, Math.abs(a[i] - b[i]));
  return most;
}
