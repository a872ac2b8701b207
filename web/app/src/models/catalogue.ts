// The models that this page offers: `models.json` beside it, so that whoever hosts the page can change them.

export interface OfferedModel {
  id: string;
  name: string;
  description?: string;
  /** Absolute. */
  url: string;
  bytes: number;
  moe?: boolean;
  /** What it is loaded with, and told, where the user has set nothing else. */
  recommended?: { expertBudget?: string; system?: string };
}

/** The offered models; none where the file is missing or makes no sense. */
export async function offeredModels(): Promise<OfferedModel[]> {
  const address = new URL("models.json", document.baseURI);
  const answer = await fetch(address).catch(() => undefined);
  if (!answer?.ok) return [];
  const content: unknown = await answer.json().catch(() => undefined);
  const models = (content as { models?: unknown } | undefined)?.models;
  if (!Array.isArray(models)) return [];
  return models.filter(isModel).map((model) => ({ ...model, url: new URL(model.url, address).href }));
}

function isModel(value: unknown): value is OfferedModel {
  const { id, name, url, bytes } = (value ?? {}) as Record<string, unknown>;
  return typeof id === "string" && typeof name === "string" && typeof url === "string" && typeof bytes === "number";
}

/** A short name for the model at an address: the file, or the last folder that says something. */
export function nameOfUrl(url: string): string {
  const parts = new URL(url).pathname.split("/").filter((part) => part && !["resolve", "main"].includes(part));
  return decodeURIComponent(parts.at(-1) ?? url).replace(/\.gguf$/i, "");
}

/** The address that someone typed, or why it is none. */
export function parseUrl(text: string): { url: string } | { problem: string } {
  const trimmed = text.trim();
  if (!trimmed) return { problem: "Enter the address of a GGUF file, or of a folder with config.json in it." };
  if (!/^[a-z]+:/i.test(trimmed) && !/^[./]/.test(trimmed)) return { problem: "An address begins with https://." };
  if (!URL.canParse(trimmed, document.baseURI)) return { problem: `"${trimmed}" is not an address.` };
  const url = new URL(trimmed, document.baseURI);
  if (!["http:", "https:"].includes(url.protocol)) return { problem: `Models are read by http and https, not by ${url.protocol}` };
  return { url: url.href };
}
