/** The engine in WebAssembly, as the worker sees it. */

import type { GenerateRequest } from "./protocol.js";
import type { ByteSource } from "./tiers/source.js";
import type { EngineEvent, ExpertStats, FinishReason, Logits, Message, ModelInfo, Stats } from "./types.js";

export interface RawHooks {
  progress(loadedBytes: number, totalBytes: number, phase: "open" | "dense" | "experts"): void;
  event(event: EngineEvent): void;
  /** What `keepKernels` was given for the same key and adapter, since loading began or in an earlier visit. */
  knownKernels(key: string): Promise<string | undefined>;
  keepKernels(key: string, kernels: string): void;
}

export interface RawOptions {
  expertBudget?: string;
  context?: number;
  precision?: "fast" | "exact";
  kv?: "f32" | "f16" | "q8";
}

export interface RawStats {
  /** Whether there is an engine now: there is none while a lost device is replaced, or the budget changed. */
  loaded: boolean;
  counters: Stats["counters"];
  experts?: ExpertStats;
  resident?: number[][];
  wasmBytes: number;
  gpuBytes: number;
}

export interface RawEngine {
  info(): ModelInfo;
  generate(
    request: GenerateRequest,
    onToken: (id: number, text: string) => void,
  ): Promise<{ finish_reason: FinishReason; prompt_tokens: number; cached_tokens: number; completion_tokens: number; rest: string }>;
  interrupt(): void;
  logits(ids: Uint32Array): Promise<Logits>;
  tokenize(text: string): Uint32Array;
  detokenize(ids: Uint32Array): string;
  chatPrompt(messages: Message[]): Uint32Array;
  stats(): Promise<RawStats>;
  fetching(): { layer: number; experts: number; bytes: number } | undefined;
  setExpertBudget(budget: string): Promise<string>;
  free(): void;
}

export interface RawEngineClass {
  load(source: ByteSource, entry: string, options: RawOptions, hooks: RawHooks): Promise<RawEngine>;
}
