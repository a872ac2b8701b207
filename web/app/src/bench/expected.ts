// Whether the model says here what it says natively: greedy tokens after a known prompt, from `bench-expected.json`.

import type { Engine } from "../moxel.js";

interface Expected {
  /** The name of its file or folder. */
  model: string;
  /** After which the next token leads by far, so that no rounding of another GPU changes it. */
  prompt: string;
  ids: number[];
}

export interface Verdict {
  expected: number[];
  got: number[];
  same: boolean;
}

/** The verdict, or undefined where nothing is known about this model. */
export async function checkOutput(engine: Engine, model: string, signal: AbortSignal): Promise<Verdict | undefined> {
  const known = (await expectations()).find((one) => one.model === model);
  if (!known) return undefined;
  const { choices } = await engine.completions.create({ prompt: known.prompt, max_tokens: known.ids.length, temperature: 0 }, { signal });
  const got = choices[0].token_ids;
  return { expected: known.ids, got, same: got.length === known.ids.length && got.every((id, index) => id === known.ids[index]) };
}

async function expectations(): Promise<Expected[]> {
  const answer = await fetch("bench-expected.json").catch(() => undefined);
  if (!answer?.ok) return [];
  const content: unknown = await answer.json().catch(() => undefined);
  return Array.isArray(content) ? (content as Expected[]) : [];
}
