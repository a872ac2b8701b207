// All conversations, the newest first, as the page shows them. What changes is written at once, and other tabs are told.

import { Observable } from "../ui/observable.js";
import type { Conversation } from "./conversation.js";
import type { ConversationStorage } from "./storage.js";

export class ConversationStore {
  /** Sorted by when they were last changed. */
  readonly list = new Observable<Conversation[]>([]);
  /** Whether the last write failed, and why. */
  readonly trouble = new Observable<string | undefined>(undefined);
  readonly #storage: ConversationStorage;
  readonly #tabs = new BroadcastChannel("moxel-conversations");

  private constructor(storage: ConversationStorage, conversations: Conversation[]) {
    this.#storage = storage;
    this.#show(conversations);
    if (!storage.lasting) this.trouble.value = "This browser keeps nothing for this page: conversations end when it is closed.";
    this.#tabs.onmessage = (event: MessageEvent<string>) => void this.#reread(event.data);
  }

  static async open(storage: ConversationStorage): Promise<ConversationStore> {
    return new ConversationStore(storage, await storage.all());
  }

  get(id: string): Conversation | undefined {
    return this.list.value.find((conversation) => conversation.id === id);
  }

  /** Keeps this version. */
  put(conversation: Conversation): void {
    const updated = { ...conversation, updated: Date.now() };
    this.#show([updated, ...this.list.value.filter(({ id }) => id !== updated.id)]);
    void this.#write(updated.id, this.#storage.put(updated));
  }

  rename(id: string, title: string): void {
    const conversation = this.get(id);
    if (conversation && title.trim()) this.put({ ...conversation, title: title.trim() });
  }

  delete(id: string): void {
    this.#show(this.list.value.filter((conversation) => conversation.id !== id));
    void this.#write(id, this.#storage.delete(id));
  }

  #show(conversations: Conversation[]): void {
    this.list.value = conversations.sort((a, b) => b.updated - a.updated);
  }

  async #write(id: string, written: Promise<void>): Promise<void> {
    try {
      await written;
      this.#tabs.postMessage(id);
    } catch (error) {
      this.trouble.value = `The browser could not keep this conversation: ${error instanceof Error ? error.message : error}`;
    }
  }

  /** Another tab changed this one. */
  async #reread(id: string): Promise<void> {
    const conversation = await this.#storage.get(id);
    const others = this.list.value.filter((other) => other.id !== id);
    this.#show(conversation ? [conversation, ...others] : others);
  }
}
