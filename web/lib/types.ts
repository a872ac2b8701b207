/**
 * What a page and the engine say to each other. The shapes of requests and answers are those of OpenAI's API, so that
 * code written for it needs a new line of set-up and no more; what goes beyond it is marked as Moxel's own.
 */

/**
 * Where a model is: the URL of a GGUF file or of a directory with `config.json` in it (Hugging Face's or a packed model;
 * for a hub its `resolve/main/`), or files that the user picked or dropped: one GGUF file, or those of a directory.
 */
export type ModelLocation = string | URL | File | readonly File[];

/** GPU memory for routed experts: `"auto"`, a share like `"50%"`, a size like `"512MB"`, or bytes. */
export type ExpertBudget = string | number;

/** Where the bytes of a file come from. */
export type Tier = "memory" | "disk" | "network" | "file";

export interface LoadOptions {
  model: ModelLocation;
  /**
   * Default `"auto"`: all experts, or as many as the adapter has memory for; a model that is not a picked file can be used
   * before they have all come. `"100%"` loads them with the model. The output is the same at any budget.
   */
  expertBudget?: ExpertBudget;
  /** Positions that a conversation can hold; default: what the model was trained for, at most 4096. */
  context?: number;
  /** `"fast"` (default): f16 cache unless `kv` says otherwise, and products of bytes where the adapter is faster with them; `"exact"`: f32. */
  precision?: "fast" | "exact";
  /**
   * What is kept of past tokens; default `"f16"`, in exact precision `"f32"`. `"q8"` is bytes with a scale for every 32, for
   * heads of 64 dimensions 63 % of f16, of 128 56 %; it needs heads of a multiple of 32.
   */
  kv?: "f32" | "f16" | "q8";
  /** Keep what was fetched in the origin's private file system (default true). Not used for picked files. */
  cache?: boolean;
  /** Bytes of experts that are kept in JavaScript memory below the GPU, where not all have a place there; default 256 MiB. */
  memoryBudget?: number;
  /** Called as loading goes on, at most some ten times a second, and once when it is done. */
  onProgress?: (progress: LoadProgress) => void;
  /** Called when something happens that a page may want to tell: see {@link EngineEvent}. */
  onEvent?: (event: EngineEvent) => void;
  /** Ends loading; `load` then rejects with code `"aborted"`, and what was cached stays. */
  signal?: AbortSignal;
}

export interface LoadProgress {
  /** `open`: sizes and configuration; `dense`: what every token needs; `experts`: those that have a place from the start. */
  phase: "open" | "dense" | "experts" | "ready";
  /** Bytes of tensors that are on the GPU, and of all that will be when loading is done. */
  loadedBytes: number;
  totalBytes: number;
  /** Bytes that came over the network and from the disk cache so far. */
  networkBytes: number;
  diskBytes: number;
  /** Over the last seconds; undefined while unknown. */
  bytesPerSecond?: number;
  secondsLeft?: number;
}

/** Something that happened outside of any call. */
export type EngineEvent =
  /** The GPU device was lost; the engine rebuilds itself and goes on with the same answer. */
  | { type: "device-lost"; message: string }
  | { type: "recovered"; seconds: number }
  /** The disk cache cannot be used any more (quota, private window); everything else goes on. */
  | { type: "cache-off"; message: string }
  /** A request to the server failed and is made again. */
  | { type: "retry"; url: string; attempt: number; message: string }
  /** A cached block did not have its checksum and is fetched again. */
  | { type: "cache-repaired"; file: string }
  /** Experts being fetched while a token waits for them; 0 when it goes on. */
  | { type: "fetching"; experts: number; bytes: number };

export type ErrorCode =
  /** No WebGPU in this browser, or no adapter. */
  | "no-webgpu"
  /** The adapter or its memory is too small for what was asked. */
  | "too-small"
  /** A file cannot be read: network, server, picked file. */
  | "read"
  /** A file is not what its format promises. */
  | "format"
  /** The model asks for something that is not supported. */
  | "unsupported"
  | "tokenizer"
  | "template"
  /** The conversation does not fit into the context. */
  | "context-full"
  /** A request that makes no sense. */
  | "request"
  /** The GPU failed, or was lost and could not be had again. */
  | "gpu"
  | "device-lost"
  /** An AbortSignal was used. */
  | "aborted"
  /** The worker ended unexpectedly; load again. */
  | "worker"
  /** `unload()` was called before. */
  | "unloaded";

/** Of what else OpenAI's messages may have, `name` is not looked at, and the rest is an error. */
export interface Message {
  role: "system" | "user" | "assistant";
  content: string;
}

/**
 * What generation of either kind takes; names, ranges and defaults are OpenAI's, but for the temperature's. `null` is as
 * good as leaving out.
 */
export interface SamplingParams {
  /** Default 0: the likeliest token. */
  temperature?: number | null;
  top_p?: number | null;
  /** Moxel's own, as in llama.cpp: keep the k likeliest; 0 keeps all. */
  top_k?: number;
  /** Moxel's own: drop what is less likely than this share of the likeliest. */
  min_p?: number;
  /** Moxel's own: above 1, tokens that are there already become less likely. */
  repetition_penalty?: number;
  seed?: number | null;
  max_tokens?: number | null;
  stop?: string | string[] | null;
}

export interface ChatParams extends SamplingParams {
  messages: Message[];
  stream?: boolean | null;
  /** Accepted for OpenAI's sake and not looked at: an engine has one model. */
  model?: string;
}

export interface CompletionParams extends SamplingParams {
  prompt: string | number[];
  stream?: boolean | null;
  model?: string;
}

/** `cancelled`: {@link Engine.interrupt} was called; what was generated until then is in the answer. */
export type FinishReason = "stop" | "length" | "cancelled";

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  total_tokens: number;
  /** Moxel's own: tokens of the prompt that did not have to be computed again. */
  cached_tokens: number;
  /** Moxel's own: seconds until the first token, and from the first to the last. */
  prompt_seconds: number;
  completion_seconds: number;
}

export interface ChatCompletion {
  id: string;
  object: "chat.completion";
  created: number;
  model: string;
  choices: [{ index: 0; message: Message; finish_reason: FinishReason; token_ids: number[] }];
  usage: Usage;
}

export interface ChatCompletionChunk {
  id: string;
  object: "chat.completion.chunk";
  created: number;
  model: string;
  /** `token_ids` (Moxel's own): the tokens that this piece of text came with. The last chunk has the reason. */
  choices: [{ index: 0; delta: Partial<Message>; finish_reason: FinishReason | null; token_ids: number[] }];
  /** On the last chunk. */
  usage?: Usage;
}

export interface Completion {
  id: string;
  object: "text_completion";
  created: number;
  model: string;
  choices: [{ index: 0; text: string; finish_reason: FinishReason | null; token_ids: number[] }];
  /** On a whole completion and on the last piece of a streamed one. */
  usage?: Usage;
}

export interface RequestOptions {
  /** Stops generating; the call then rejects, and a stream throws, with code `"aborted"`. */
  signal?: AbortSignal;
}

export interface Logits {
  /** [tokens, vocab] */
  logits: Float32Array;
  tokens: number;
  vocab: number;
  /** For each MoE layer: [tokens, k] chosen experts, highest weight first, and their weights. */
  routing: { layer: number; ids: Uint32Array; weights: Float32Array }[];
}

export interface AdapterInfo {
  name: string;
  backend: string;
  /** The optional features that are used, in words. */
  tier: string;
  maxBindingBytes: number;
  maxBufferBytes: number;
}

export interface ModelInfo {
  name: string;
  architecture: string;
  parameters?: number;
  layers: number;
  hidden: number;
  vocab: number;
  context: number;
  trainedContext: number;
  weightBytes: number;
  expertBytes: number;
  /** Indices of the MoE layers, experts in each, and how many a token chooses. */
  moeLayers: number[];
  experts: number;
  expertsPerToken: number;
  /** The plan in a sentence; undefined for a dense model. */
  expertPlan?: string;
  /** Whether the model can chat: it has a chat template. */
  chat: boolean;
  kernels: string;
  adapter: AdapterInfo;
}

/** The figures of `moxel generate --json` under `stats.experts`, with its names. */
export interface ExpertStats {
  slots: number;
  experts: number;
  budget_bytes: number;
  tokens: number;
  hits: number;
  misses: number;
  hit_rate: number;
  stalled_layers: number;
  stalled_layers_per_token: number;
  syncs: number;
  syncs_per_token: number;
  demand_bytes: number;
  demand_bytes_per_token: number;
  speculative_useful_bytes: number;
  speculative_wasted_bytes: number;
  prefetching: boolean;
  stall_ms: { read: number; upload: number; round_trip: number; resubmit: number };
  prefill: { tokens: number; experts: number; loads: number; bytes: number };
  layers: { layer: number; hits: number; misses: number; chosen: number[] }[];
}

export interface Stats {
  /** Work since the model was loaded. */
  counters: { dispatches: number; submits: number; readbacks: number; weight_bytes: number };
  experts?: ExpertStats;
  /** For each MoE layer and expert: 1 where it is on the GPU now. */
  resident?: number[][];
  /** Bytes that were read from each tier since loading began. */
  read: Record<Tier, number>;
  /** Requests that a server answered, those that only asked whether a file is still the same included. */
  requests: number;
  /** Bytes of the WebAssembly heap, and of experts and files kept in JavaScript memory. */
  wasmBytes: number;
  memoryBytes: number;
  /** Bytes of GPU buffers. */
  gpuBytes: number;
}

/** A model in the disk cache. */
export interface CachedModel {
  /** The URL that it was loaded from. */
  url: string;
  bytes: number;
  totalBytes: number;
  /** Whether everything is there, so that it can be loaded offline. */
  complete: boolean;
  lastUsed: Date;
}

/** A loaded model. Made by `Moxel.load`. One request is computed at a time; others wait their turn. */
export interface Engine {
  readonly info: ModelInfo;
  readonly chat: {
    readonly completions: {
      create(params: ChatParams & { stream: true }, options?: RequestOptions): Promise<AsyncIterable<ChatCompletionChunk>>;
      create(params: ChatParams & { stream?: false | null }, options?: RequestOptions): Promise<ChatCompletion>;
      create(params: ChatParams, options?: RequestOptions): Promise<ChatCompletion | AsyncIterable<ChatCompletionChunk>>;
    };
  };
  readonly completions: {
    create(params: CompletionParams & { stream: true }, options?: RequestOptions): Promise<AsyncIterable<Completion>>;
    create(params: CompletionParams & { stream?: false | null }, options?: RequestOptions): Promise<Completion>;
    create(params: CompletionParams, options?: RequestOptions): Promise<Completion | AsyncIterable<Completion>>;
  };
  /** Logits after each of these tokens, in a session of its own; for verification. */
  logits(tokenIds: number[], options?: RequestOptions): Promise<Logits>;
  tokenize(text: string): Promise<number[]>;
  detokenize(ids: number[]): Promise<string>;
  /** The ids of a conversation through the model's chat template. */
  chatPrompt(messages: Message[]): Promise<number[]>;
  stats(): Promise<Stats>;
  /** Stops the answer that is being generated after its current token; it ends as `"cancelled"`. */
  interrupt(): void;
  /** Takes effect after the answer that is being generated; conversations go on. Resolves to the plan in a sentence. */
  setExpertBudget(budget: ExpertBudget): Promise<string>;
  /** Frees the GPU and ends the worker. */
  unload(): Promise<void>;
}
