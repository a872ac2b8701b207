// Where conversations are kept: IndexedDB, or nowhere if the browser refuses it.

import { openDB, type DBSchema } from "idb";
import type { Conversation } from "./conversation.js";

export interface ConversationStorage {
  /** False where conversations end with the page. */
  readonly lasting: boolean;
  all(): Promise<Conversation[]>;
  get(id: string): Promise<Conversation | undefined>;
  put(conversation: Conversation): Promise<void>;
  delete(id: string): Promise<void>;
}

interface Schema extends DBSchema {
  conversations: { key: string; value: Conversation };
}

export async function openStorage(): Promise<ConversationStorage> {
  try {
    const db = await openDB<Schema>("moxel", 1, {
      upgrade: (created) => void created.createObjectStore("conversations", { keyPath: "id" }),
    });
    return {
      lasting: true,
      all: () => db.getAll("conversations"),
      get: (id) => db.get("conversations", id),
      put: async (conversation) => void (await db.put("conversations", conversation)),
      delete: (id) => db.delete("conversations", id),
    };
  } catch {
    return { lasting: false, all: async () => [], get: async () => undefined, put: async () => {}, delete: async () => {} };
  }
}
