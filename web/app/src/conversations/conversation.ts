// A conversation, and what can be done with one. Nothing here knows storage or the screen.

export interface Turn {
  role: "user" | "assistant";
  content: string;
  /** Of an answer: what became of it. Absent while it is written, and if the page was closed meanwhile. */
  end?: "stop" | "length" | "cancelled" | "failed";
  /** Why it failed. */
  error?: string;
  /** The name of the model that wrote it, its tokens and their speed. */
  model?: string;
  tokens?: number;
  tokensPerSecond?: number;
}

export interface Conversation {
  id: string;
  title: string;
  /** Milliseconds since 1970. */
  created: number;
  updated: number;
  turns: Turn[];
}

const UNTITLED = "New conversation";

export function newConversation(now = Date.now()): Conversation {
  // randomUUID is not there on a page without encryption, where conversations can still be read.
  const id = [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return { id, title: UNTITLED, created: now, updated: now, turns: [] };
}

/** Adds a question; the first one names the conversation. */
export function ask(conversation: Conversation, content: string): Conversation {
  const title = conversation.title === UNTITLED && conversation.turns.length === 0 ? titleOf(content) : conversation.title;
  return { ...conversation, title, turns: [...conversation.turns, { role: "user", content }] };
}

/** Goes back to before the turn at `index`, and asks something else there. */
export function askInstead(conversation: Conversation, index: number, content: string): Conversation {
  const [first] = conversation.turns;
  // A title that came from the question changes with it; one that the user gave stays.
  const named = index > 0 || conversation.title !== titleOf(first?.content ?? "");
  return ask({ ...conversation, title: named ? conversation.title : UNTITLED, turns: conversation.turns.slice(0, index) }, content);
}

/** Forgets the answer at `index` and everything after it. */
export function withoutAnswer(conversation: Conversation, index: number): Conversation {
  return { ...conversation, turns: conversation.turns.slice(0, index) };
}

/** The first line, cut at a word. */
export function titleOf(content: string): string {
  const line = content.trim().split("\n")[0] ?? "";
  if (line.length <= 48) return line || UNTITLED;
  const cut = line.slice(0, 48);
  const word = cut.lastIndexOf(" ");
  return `${word > 24 ? cut.slice(0, word) : cut}…`;
}
