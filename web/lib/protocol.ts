/** What goes between the page and the worker. */

import type { PlainError } from "./errors.js";
import type {
  EngineEvent, ExpertBudget, FinishReason, LoadProgress, Logits, Message, ModelInfo, SamplingParams, Stats,
} from "./types.js";

/** Where a model is, once it is clear what the location means. */
export type Place =
  /** `folder` ends with a slash and `query`, which is empty or begins with `?`, goes with every file. */
  | { kind: "web"; url: string; folder: string; query: string; entry: string }
  | { kind: "files"; name: string; files: Map<string, File>; entry: string };

export interface LoadRequest {
  place: Place;
  expertBudget?: ExpertBudget;
  context?: number;
  precision?: "fast" | "exact";
  kv?: "f32" | "f16" | "q8";
  cache: boolean;
  memoryBudget: number;
}

/** A request without what is left out in words: what OpenAI's clients write `null` for is not here. */
export type GenerateRequest = { [Name in keyof SamplingParams]?: NonNullable<SamplingParams[Name]> } & {
  messages?: Message[];
  prompt?: string | number[];
};

export interface Generated {
  finish_reason: FinishReason;
  prompt_tokens: number;
  cached_tokens: number;
  completion_tokens: number;
  /** Text of the tokens that was held back, for what could have become a stop string, when the generation was interrupted. */
  rest: string;
  prompt_seconds: number;
  completion_seconds: number;
}

/** What the page may ask of the worker. */
export interface Calls {
  load(request: LoadRequest): ModelInfo;
  generate(request: GenerateRequest): Generated;
  logits(ids: number[]): Logits;
  tokenize(text: string): number[];
  detokenize(ids: number[]): string;
  chatPrompt(messages: Message[]): number[];
  stats(): Stats;
  setExpertBudget(budget: ExpertBudget): string;
  unload(): void;
}

export type ToWorker =
  | { [Name in keyof Calls]: { kind: "call"; id: number; name: Name; argument: Parameters<Calls[Name]>[0] } }[keyof Calls]
  /** Ends the generation that was asked for by this id, if it is the one being computed. */
  | { kind: "interrupt"; id: number };

export type FromWorker =
  /** The worker holds the lock that tells of its life. */
  | { kind: "alive" }
  | { kind: "result"; id: number; value: unknown }
  | { kind: "failure"; id: number; error: PlainError }
  | { kind: "token"; id: number; token: number; text: string }
  | { kind: "progress"; progress: LoadProgress }
  | { kind: "event"; event: EngineEvent }
  /** The engine is in no state to answer anything any more. */
  | { kind: "fatal"; message: string };
