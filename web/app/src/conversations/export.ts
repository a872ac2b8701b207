import type { Conversation } from "./conversation.js";

/** As a text that people read. */
export function asMarkdown(conversation: Conversation): string {
  const turns = conversation.turns.map(({ role, content }) => `**${role === "user" ? "You" : "Assistant"}**\n\n${content.trim()}\n`);
  return `# ${conversation.title}\n\n${turns.join("\n")}`;
}

/** As messages that any program with OpenAI's shapes takes. */
export function asJson(conversation: Conversation): string {
  const { title, created, updated, turns } = conversation;
  const times = { created: new Date(created).toISOString(), updated: new Date(updated).toISOString() };
  return `${JSON.stringify({ title, ...times, messages: turns.map(({ role, content }) => ({ role, content })) }, null, 2)}\n`;
}

/** A name for the file: letters and digits of the title. */
export function fileName(conversation: Conversation, extension: string): string {
  const words = conversation.title.toLowerCase().replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "");
  return `${words || "conversation"}.${extension}`;
}
