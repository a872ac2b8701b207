// Answers that are being written. They go on while another conversation is shown, and what is there is kept as it grows.

import type { Conversation, Turn } from "../conversations/conversation.js";
import type { ConversationStore } from "../conversations/store.js";
import type { Engine, Message, SamplingParams, Usage } from "../moxel.js";
import { settings, type Settings } from "../settings.js";
import { Observable } from "../ui/observable.js";
import type { EngineHost } from "./host.js";

/** An answer in the making. */
export interface Growing {
  readonly conversation: string;
  readonly text: Observable<string>;
  readonly abort: AbortController;
}

/** The speed of an answer, while it is written and of the last one. */
export interface Speed {
  promptTokens?: number;
  cachedTokens?: number;
  promptPerSecond?: number;
  tokens: number;
  perSecond?: number;
}

/** So often is a growing answer written to the storage; milliseconds. */
const KEEP_EVERY = 700;

export class Answers {
  /** By conversation. A new map each time one begins or ends. */
  readonly growing = new Observable<ReadonlyMap<string, Growing>>(new Map());
  readonly speed = new Observable<Speed | undefined>(undefined);
  /** The last answer that came to its end, for screen readers. */
  readonly finished = new Observable<Turn | undefined>(undefined);
  readonly #host: EngineHost;
  readonly #store: ConversationStore;

  constructor(host: EngineHost, store: ConversationStore) {
    this.#host = host;
    this.#store = store;
    // A page that is put away may never run again.
    document.addEventListener("visibilitychange", () => document.visibilityState === "hidden" && this.#keepAll());
    addEventListener("pagehide", () => this.#keepAll());
  }

  /** Answers the last question of a conversation, and keeps it with the answer. */
  async answer(conversation: Conversation): Promise<void> {
    const { engine } = this.#host;
    if (!engine || this.growing.value.has(conversation.id)) return;
    const growing: Growing = { conversation: conversation.id, text: new Observable(""), abort: new AbortController() };
    this.#store.put({ ...conversation, turns: [...conversation.turns, { role: "assistant", content: "", model: this.#host.choice?.name ?? engine.info.name }] });
    this.#change((map) => map.set(conversation.id, growing));
    const meter = new Meter(this.speed);
    let end: Partial<Turn>;
    try {
      end = await this.#write(engine, conversation, growing, meter);
    } catch (error) {
      end = growing.abort.signal.aborted ? { end: "cancelled" } : { end: "failed", error: this.#host.notice(error).message };
    }
    end = { ...end, ...meter.result() };
    this.#change((map) => map.delete(conversation.id));
    this.#keep(growing, end);
    this.finished.value = { role: "assistant", content: growing.text.value, ...end };
  }

  stop(conversation: string): void {
    this.growing.value.get(conversation)?.abort.abort();
  }

  async #write(engine: Engine, conversation: Conversation, growing: Growing, meter: Meter): Promise<Partial<Turn>> {
    const messages = messagesOf(conversation, settings.value.system.trim() || (this.#host.choice?.system ?? ""));
    const stream = await engine.chat.completions.create(
      { messages, stream: true, ...sampling(settings.value) },
      { signal: growing.abort.signal },
    );
    let kept = performance.now();
    for await (const { choices: [choice], usage } of stream) {
      meter.count(choice.token_ids.length);
      if (choice.delta.content) growing.text.value += choice.delta.content;
      if (performance.now() - kept > KEEP_EVERY) {
        this.#keep(growing, {});
        kept = performance.now();
      }
      if (choice.finish_reason) {
        if (usage) meter.finish(usage);
        return { end: choice.finish_reason };
      }
    }
    return { end: "cancelled" };
  }

  #keepAll(): void {
    for (const growing of this.growing.value.values()) this.#keep(growing, {});
  }

  /** Writes what there is of the answer. The conversation may have been renamed or deleted meanwhile. */
  #keep(growing: Growing, end: Partial<Turn>): void {
    const conversation = this.#store.get(growing.conversation);
    const last = conversation?.turns.at(-1);
    if (!conversation || last?.role !== "assistant") return;
    const turn: Turn = { ...last, content: growing.text.value, ...end };
    this.#store.put({ ...conversation, turns: [...conversation.turns.slice(0, -1), turn] });
  }

  #change(edit: (map: Map<string, Growing>) => void): void {
    const map = new Map(this.growing.value);
    edit(map);
    this.#host.busy = map.size > 0;
    this.growing.value = map;
  }
}

/** Counts tokens as they come; the engine's own figures take their place at the end. */
class Meter {
  readonly #speed: Observable<Speed | undefined>;
  #now: Speed = { tokens: 0 };
  #first: number | undefined;

  constructor(speed: Observable<Speed | undefined>) {
    this.#speed = speed;
    speed.value = this.#now;
  }

  count(tokens: number): void {
    if (tokens === 0) return;
    this.#first ??= performance.now();
    const seconds = (performance.now() - this.#first) / 1000;
    const total = this.#now.tokens + tokens;
    this.#now = { tokens: total, ...(seconds > 0 && total > 1 ? { perSecond: (total - 1) / seconds } : {}) };
    this.#speed.value = this.#now;
  }

  finish(usage: Usage): void {
    const { prompt_tokens, cached_tokens, completion_tokens, prompt_seconds, completion_seconds } = usage;
    this.#now = {
      promptTokens: prompt_tokens,
      cachedTokens: cached_tokens,
      ...(prompt_seconds > 0 ? { promptPerSecond: (prompt_tokens - cached_tokens) / prompt_seconds } : {}),
      tokens: completion_tokens,
      ...(completion_seconds > 0 ? { perSecond: (completion_tokens - 1) / completion_seconds } : {}),
    };
    this.#speed.value = this.#now;
  }

  result(): Partial<Turn> {
    const { tokens, perSecond } = this.#now;
    return { tokens, ...(perSecond === undefined ? {} : { tokensPerSecond: perSecond }) };
  }
}

function messagesOf(conversation: Conversation, system: string): Message[] {
  const turns: Message[] = conversation.turns.map(({ role, content }) => ({ role, content }));
  return system ? [{ role: "system", content: system }, ...turns] : turns;
}

function sampling(from: Settings): SamplingParams {
  const { temperature, top_p, top_k, min_p, repetition_penalty, max_tokens, seed } = from;
  // Without a seed of his own, the user expects another answer each time.
  const random = crypto.getRandomValues(new Uint32Array(1))[0] ?? 0;
  return { temperature, top_p, top_k, min_p, repetition_penalty, max_tokens, seed: seed ?? random };
}
