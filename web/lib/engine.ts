/** A loaded model as the page sees it; the worker does the work. */

import type { WorkerClient } from "./client.js";
import { aborted, MoxelError } from "./errors.js";
import type { Generated, GenerateRequest } from "./protocol.js";
import { Stream } from "./stream.js";
import { Turnstile, untilAborted } from "./turnstile.js";
import type {
  ChatCompletion, ChatCompletionChunk, ChatParams, Completion, CompletionParams, Engine, ExpertBudget, Logits, Message,
  ModelInfo, RequestOptions, Stats, Usage,
} from "./types.js";
import { chatRequest, checkBudget, checkText, completionRequest, copyMessages, copyTokens } from "./validate.js";

/** What every answer to a request begins with. */
interface Head {
  id: string;
  created: number;
  model: string;
}

export class WorkerEngine implements Engine {
  readonly info: ModelInfo;
  readonly chat = { completions: { create: this.#createChat.bind(this) as Engine["chat"]["completions"]["create"] } };
  readonly completions = { create: this.#createCompletion.bind(this) as Engine["completions"]["create"] };
  readonly #client: WorkerClient;
  readonly #turns = new Turnstile();
  /** The generation that is being computed. */
  #current: number | undefined;

  constructor(client: WorkerClient, info: ModelInfo) {
    this.#client = client;
    this.info = info;
  }

  async #createChat(params: ChatParams, { signal }: RequestOptions = {}): Promise<ChatCompletion | AsyncIterable<ChatCompletionChunk>> {
    const request = chatRequest(params);
    const head = this.#head("chatcmpl");
    if (params.stream) {
      const chunk = (delta: Partial<Message>, token_ids: number[] = []): ChatCompletionChunk => ({
        ...head, object: "chat.completion.chunk", choices: [{ index: 0, delta, finish_reason: null, token_ids }],
      });
      return this.#stream<ChatCompletionChunk>(request, signal, {
        first: chunk({ role: "assistant", content: "" }),
        token: (token, text) => chunk({ content: text }, [token]),
        last: ({ finish_reason, rest, usage }) => ({
          ...chunk({}), choices: [{ index: 0, delta: rest === "" ? {} : { content: rest }, finish_reason, token_ids: [] }], usage,
        }),
      });
    }
    const { text, token_ids, finish_reason, usage } = await this.#whole(request, signal);
    const message: Message = { role: "assistant", content: text };
    return { ...head, object: "chat.completion", choices: [{ index: 0, message, finish_reason, token_ids }], usage };
  }

  async #createCompletion(params: CompletionParams, { signal }: RequestOptions = {}): Promise<Completion | AsyncIterable<Completion>> {
    const request = completionRequest(params);
    const head = { ...this.#head("cmpl"), object: "text_completion" as const };
    if (params.stream) {
      return this.#stream<Completion>(request, signal, {
        token: (token, text) => ({ ...head, choices: [{ index: 0, text, finish_reason: null, token_ids: [token] }] }),
        last: ({ finish_reason, rest, usage }) => ({ ...head, choices: [{ index: 0, text: rest, finish_reason, token_ids: [] }], usage }),
      });
    }
    const { text, token_ids, finish_reason, usage } = await this.#whole(request, signal);
    return { ...head, choices: [{ index: 0, text, finish_reason, token_ids }], usage };
  }

  #head(kind: string): Head {
    return { id: `${kind}-${crypto.randomUUID()}`, created: Math.floor(Date.now() / 1000), model: this.info.name };
  }

  async #whole(request: GenerateRequest, signal: AbortSignal | undefined) {
    let text = "";
    const token_ids: number[] = [];
    const generated = await this.#generate(request, signal, (token, piece) => {
      text += piece;
      token_ids.push(token);
    });
    return { text: text + generated.rest, token_ids, finish_reason: generated.finish_reason, usage: usageOf(generated) };
  }

  /** Begins at once, whether somebody iterates or not; errors of the engine are thrown to whoever does. */
  #stream<Chunk>(
    request: GenerateRequest,
    signal: AbortSignal | undefined,
    make: {
      first?: Chunk;
      token(token: number, text: string): Chunk;
      last(end: Pick<Generated, "finish_reason" | "rest"> & { usage: Usage }): Chunk;
    },
  ): Stream<Chunk> {
    if (signal?.aborted) throw aborted(signal);
    const left = new AbortController();
    const stream = new Stream<Chunk>(() => left.abort());
    if (make.first !== undefined) stream.push(make.first);
    const either = signal === undefined ? left.signal : anyOf(signal, left);
    this.#generate(request, either, (token, text) => stream.push(make.token(token, text))).then(
      (generated) => {
        stream.push(make.last({ ...generated, usage: usageOf(generated) }));
        stream.finish();
      },
      (error: unknown) => stream.fail(error),
    );
    return stream;
  }

  #generate(
    request: GenerateRequest,
    signal: AbortSignal | undefined,
    onToken: (token: number, text: string) => void,
  ): Promise<Generated> {
    const work = async () => {
      let id = 0;
      const stop = () => this.#client.interrupt(id);
      const onStart = (started: number) => (this.#current = id = started);
      try {
        const generated = this.#client.call("generate", request, {
          onStart,
          onToken: (token, text) => {
            if (!signal?.aborted) onToken(token, text);
          },
        });
        signal?.addEventListener("abort", stop, { once: true });
        return await generated;
      } finally {
        signal?.removeEventListener("abort", stop);
        this.#current = undefined;
      }
    };
    return this.#turns.run(work, signal);
  }

  async logits(tokenIds: number[], { signal }: RequestOptions = {}): Promise<Logits> {
    const ids = copyTokens(tokenIds, 1);
    return this.#turns.run(() => this.#client.call("logits", ids), signal);
  }

  async tokenize(text: string): Promise<number[]> {
    checkText(text);
    return this.#client.call("tokenize", text);
  }

  async detokenize(ids: number[]): Promise<string> {
    return this.#client.call("detokenize", copyTokens(ids, 0));
  }

  async chatPrompt(messages: Message[]): Promise<number[]> {
    return this.#client.call("chatPrompt", copyMessages(messages));
  }

  stats(): Promise<Stats> {
    return this.#client.call("stats", undefined);
  }

  interrupt(): void {
    if (this.#current !== undefined) this.#client.interrupt(this.#current);
  }

  async setExpertBudget(budget: ExpertBudget): Promise<string> {
    checkBudget(budget);
    return this.#turns.run(() => this.#client.call("setExpertBudget", budget), undefined);
  }

  async unload(): Promise<void> {
    this.interrupt();
    const gone = new MoxelError("unloaded", "the model was unloaded; load it again");
    // A worker that hangs must not keep its memory because it was asked politely.
    const inTime = AbortSignal.timeout(UNLOAD_PATIENCE);
    await untilAborted(this.#client.call("unload", undefined), inTime).catch(() => undefined);
    this.#client.end(gone);
  }
}

/** Milliseconds that a worker has to write what it fetched and to free the GPU. */
const UNLOAD_PATIENCE = 3_000;

function usageOf(generated: Generated): Usage {
  const { prompt_tokens, completion_tokens, cached_tokens, prompt_seconds, completion_seconds } = generated;
  const total_tokens = prompt_tokens + completion_tokens;
  return { prompt_tokens, completion_tokens, total_tokens, cached_tokens, prompt_seconds, completion_seconds };
}

/** A signal that follows the other and can be used by itself; `AbortSignal.any` is too new for some browsers. */
function anyOf(other: AbortSignal, own: AbortController): AbortSignal {
  other.addEventListener("abort", () => own.abort(other.reason), { once: true, signal: own.signal });
  return own.signal;
}
