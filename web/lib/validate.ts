/** Refuses requests that make no sense before anything is computed, naming the parameter at fault. */

import { MoxelError } from "./errors.js";
import type { GenerateRequest } from "./protocol.js";
import type { ChatParams, CompletionParams, LoadOptions, Message, SamplingParams } from "./types.js";

type Check = { is: (value: unknown) => boolean; must: string };

const isFinite = (value: unknown): value is number => typeof value === "number" && Number.isFinite(value);
const isWhole = (value: unknown, least: number) => Number.isSafeInteger(value) && (value as number) >= least;
/** A number that the engine counts with in 32 bits. */
const isCount = (value: unknown, least: number) => isWhole(value, least) && (value as number) < 2 ** 32;
const isText = (value: unknown) => typeof value === "string";
const isSignal = (value: unknown) => value instanceof AbortSignal;
const isFunction = (value: unknown) => typeof value === "function";
const isBoolean = (value: unknown) => typeof value === "boolean";

/** An id of a token; which there are is known to the engine. */
const isToken = (value: unknown) => isCount(value, 0);
const isTokens = (value: unknown) => Array.isArray(value) && value.length > 0 && value.every(isToken);

const SAMPLING: Record<keyof SamplingParams, Check> = {
  temperature: { is: (v) => isFinite(v) && v >= 0, must: "a number of at least 0" },
  top_p: { is: (v) => isFinite(v) && v > 0 && v <= 1, must: "a number above 0 and at most 1" },
  top_k: { is: (v) => isCount(v, 0), must: "a whole number from 0 to 2^32 - 1" },
  min_p: { is: (v) => isFinite(v) && v >= 0 && v <= 1, must: "a number from 0 to 1" },
  repetition_penalty: { is: (v) => isFinite(v) && v > 0, must: "a number above 0" },
  seed: { is: (v) => isWhole(v, 0), must: "a whole number from 0 to 2^53 - 1" },
  max_tokens: { is: (v) => isCount(v, 1), must: "a whole number from 1 to 2^32 - 1" },
  stop: {
    is: (v) => [v].flat().every((text) => typeof text === "string" && text !== ""),
    must: "a string or a list of strings, none of them empty",
  },
};

const COMMON = { ...SAMPLING, stream: { is: isBoolean, must: "true or false" }, model: { is: isText, must: "a string" } };

const CHAT: Record<keyof ChatParams, Check> = {
  ...COMMON,
  messages: {
    is: (v) => Array.isArray(v) && v.length > 0 && v.every(isMessage),
    must: 'a list, not empty, of { role: "system" | "user" | "assistant", content: string }',
  },
};

const COMPLETION: Record<keyof CompletionParams, Check> = {
  ...COMMON,
  prompt: { is: (v) => (isText(v) && v !== "") || isTokens(v), must: "a text or a list of token ids, not empty" },
};

const LOAD: Record<keyof LoadOptions, Check> = {
  model: { is: (v) => v !== null, must: "a URL or files" },
  expertBudget: { is: isBudget, must: '"auto", a share like "50%", a size like "512MB", or bytes' },
  context: { is: (v) => isCount(v, 1), must: "a whole number from 1 to 2^32 - 1" },
  precision: { is: (v) => v === "fast" || v === "exact", must: '"fast" or "exact"' },
  kv: { is: (v) => v === "f32" || v === "f16" || v === "q8", must: '"f32", "f16" or "q8"' },
  cache: { is: isBoolean, must: "true or false" },
  memoryBudget: { is: (v) => isWhole(v, 0), must: "a number of bytes" },
  onProgress: { is: isFunction, must: "a function" },
  onEvent: { is: isFunction, must: "a function" },
  signal: { is: isSignal, must: "an AbortSignal" },
};

function isMessage(value: unknown): value is Message {
  const message = value as Partial<Message> | null;
  return ["system", "user", "assistant"].includes(message?.role ?? "") && isText(message?.content);
}

export function isBudget(value: unknown): boolean {
  return isWhole(value, 0) || (typeof value === "string" && /^(auto|\d+(\.\d+)?\s*(%|[kmgt]?i?b)?)$/i.test(value.trim()));
}

/** Checks every parameter that is there, and that there is no other: one that nobody reads would change nothing, silently. */
function check(parameters: unknown, checks: Record<string, Check>, required: string): void {
  if (typeof parameters !== "object" || parameters === null) {
    throw new MoxelError("request", `an object with ${required} is needed`);
  }
  const given = parameters as Record<string, unknown>;
  if (given[required] === undefined) throw new MoxelError("request", `${required} is missing`);
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined) continue;
    const rule = Object.hasOwn(checks, name) ? checks[name] : undefined;
    if (rule === undefined) throw new MoxelError("request", `${name} is not supported`);
    if (!rule.is(value)) throw new MoxelError("request", `${name} must be ${rule.must}`);
  }
}

export function checkLoad(options: LoadOptions): void {
  check(options, LOAD, "model");
}

/**
 * What of the parameters the engine is to know. All of it is copied: the lists of frameworks that watch for changes (Vue,
 * MobX) cannot be sent to a worker, and a caller may change his while the request waits for its turn.
 */
export function chatRequest(params: ChatParams): GenerateRequest {
  const given = withoutNull(params);
  check(given, CHAT, "messages");
  return { ...samplingOf(given), messages: copyOf(given.messages) };
}

export function completionRequest(params: CompletionParams): GenerateRequest {
  const given = withoutNull(params);
  check(given, COMPLETION, "prompt");
  return { ...samplingOf(given), prompt: typeof given.prompt === "string" ? given.prompt : [...given.prompt] };
}

/** OpenAI's clients may write `null` for what they leave out. */
function withoutNull<Params extends object>(params: Params): Params {
  if (typeof params !== "object" || params === null) return params;
  return Object.fromEntries(Object.entries(params).filter(([, value]) => value !== undefined && value !== null)) as Params;
}

function samplingOf(given: SamplingParams): GenerateRequest {
  const chosen = Object.entries(given).filter(([name]) => Object.hasOwn(SAMPLING, name));
  const sampling = Object.fromEntries(chosen) as GenerateRequest;
  return sampling.stop === undefined ? sampling : { ...sampling, stop: [sampling.stop].flat() };
}

function copyOf(messages: readonly Message[]): Message[] {
  return messages.map(({ role, content, ...more }) => {
    // Who of several users speaks is nothing that templates know of. The rest would change what the conversation means.
    const unknown = Object.entries(more).find(([key, value]) => key !== "name" && value !== undefined && value !== null);
    if (unknown !== undefined) {
      throw new MoxelError("request", `messages must have role and content only; ${unknown[0]} is not supported`);
    }
    return { role, content };
  });
}

export function copyTokens(ids: readonly number[], least: 0 | 1): number[] {
  if (!(isTokens(ids) || (least === 0 && Array.isArray(ids) && ids.length === 0))) {
    throw new MoxelError("request", `token ids must be a list of whole numbers${least === 1 ? ", not empty" : ""}`);
  }
  return [...ids];
}

export function copyMessages(messages: readonly Message[]): Message[] {
  check({ messages }, CHAT, "messages");
  return copyOf(messages);
}

export function checkText(text: unknown): void {
  if (!isText(text)) throw new MoxelError("request", "text must be a string");
}

export function checkBudget(budget: unknown): void {
  const rule = LOAD.expertBudget;
  if (!rule.is(budget)) throw new MoxelError("request", `expertBudget must be ${rule.must}`);
}
