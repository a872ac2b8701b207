// What is measured: the same as by `moxel bench`, prompt processing (pp) and generation (tg).

import type { Engine } from "../moxel.js";

/** One test's result, with the names that `moxel bench --output json` has. */
export interface BenchRow {
  model: string;
  model_size: number;
  model_n_params: number;
  backend: string;
  adapter: string;
  kernels: string;
  /** `pp` or `tg` and the number of tokens. */
  test: string;
  tokens_per_second: number;
  stddev: number;
  samples: number[];
}

export interface BenchSettings {
  prompt: number;
  generate: number;
  repetitions: number;
}

export interface BenchSteps {
  /** Called before each run with what is measured, and how many of all runs are done. */
  step(test: string, done: number, all: number): void;
  signal: AbortSignal;
}

export async function bench(engine: Engine, settings: BenchSettings, { step, signal }: BenchSteps): Promise<BenchRow[]> {
  const tests = [
    ...(settings.prompt > 0 ? [{ name: `pp${settings.prompt}`, run: (turn: number) => promptRate(engine, settings.prompt, turn, signal) }] : []),
    ...(settings.generate > 0 ? [{ name: `tg${settings.generate}`, run: (turn: number) => generationRate(engine, settings.generate, turn, signal) }] : []),
  ];
  const runs = settings.repetitions + 1;
  const rows: BenchRow[] = [];
  for (const [index, { name, run }] of tests.entries()) {
    const samples: number[] = [];
    // The first run is not counted: it compiles pipelines and fills caches.
    for (let turn = 0; turn < runs; turn += 1) {
      step(name, index * runs + turn, tests.length * runs);
      const rate = await run(turn);
      if (turn > 0) samples.push(rate);
    }
    rows.push(row(engine, name, samples));
  }
  return rows;
}

/** Token ids spread over the vocabulary, as natively; each turn begins with another one, so that no earlier work is used again. */
export function someTokens(count: number, vocab: number, turn: number): number[] {
  return Array.from({ length: count }, (_, index) => (index * 7919 + 1 + turn * 104_729) % vocab);
}

async function promptRate(engine: Engine, count: number, turn: number, signal: AbortSignal): Promise<number> {
  const prompt = someTokens(count, engine.info.vocab, turn);
  const { usage } = await engine.completions.create({ prompt, max_tokens: 1 }, { signal });
  return usage ? (usage.prompt_tokens - usage.cached_tokens) / usage.prompt_seconds : 0;
}

/** A text may end early, where the model says so: then another one is begun, and the tokens of all are counted. */
async function generationRate(engine: Engine, count: number, turn: number, signal: AbortSignal): Promise<number> {
  let tokens = 0;
  let seconds = 0;
  for (let text = 0; tokens < count && text < 2 * count; text += 1) {
    const prompt = someTokens(1, engine.info.vocab, 31 * turn + text + 1);
    const { usage } = await engine.completions.create({ prompt, max_tokens: count - tokens + 1 }, { signal });
    // Seconds run from the first token to the last.
    tokens += Math.max((usage?.completion_tokens ?? 0) - 1, 0);
    seconds += usage?.completion_seconds ?? 0;
  }
  return seconds > 0 ? tokens / seconds : 0;
}

function row({ info }: Engine, test: string, samples: number[]): BenchRow {
  const { mean, deviation } = meanAndDeviation(samples);
  return {
    model: info.name,
    model_size: info.weightBytes,
    model_n_params: info.parameters ?? 0,
    backend: info.adapter.backend,
    adapter: info.adapter.name,
    kernels: info.kernels,
    test,
    tokens_per_second: mean,
    stddev: deviation,
    samples,
  };
}

/** The mean and the standard deviation of a sample; the latter is 0 for a single value. */
export function meanAndDeviation(samples: number[]): { mean: number; deviation: number } {
  const mean = samples.reduce((sum, value) => sum + value, 0) / samples.length;
  const squares = samples.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, deviation: samples.length > 1 ? Math.sqrt(squares / (samples.length - 1)) : 0 };
}
