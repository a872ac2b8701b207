/** How models lie in the origin's private file system; shared by the worker, which writes, and the page, which lists. */

import type { Version } from "./answer.js";

/** The cache's own folder. */
export const ROOT = "moxel-cache";

/** What a model's folder says about itself. */
export const MODEL_FILE = "model.json";

/** A file of a model, and the folder of its blocks. */
export interface StoredFile {
  size: number;
  version: Version;
  ranges: boolean;
  folder: string;
  blockBytes: number;
}

/** The content of `model.json`. */
export interface StoredModel {
  /** Changes when older programs could no longer read what is here. */
  format: 1;
  /** Without the query, which may hold secrets. */
  url: string;
  /** Milliseconds since 1970. */
  lastUsed: number;
  /** Whether everything that loading needs was written, so that parts which no one reads need not be here. */
  whole: boolean;
  /** `null`: the server said that there is no such file, and a load offline must know. */
  files: Record<string, StoredFile | null>;
}

/** A name for a folder: a hash, because file names of the web are not names of files everywhere. */
export async function folderName(text: string): Promise<string> {
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return [...new Uint8Array(hash, 0, 16)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

export const blockName = (block: number) => `${block}.block`;

/** The number of a block's file; `undefined` for other files, such as those that a browser is about to write. */
export function blockNumber(name: string): number | undefined {
  const digits = /^(\d+)\.block$/.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** What is in `model.json`, or `undefined` if it says nothing that can be used. */
export function parseModel(text: string): StoredModel | undefined {
  try {
    const model = JSON.parse(text) as Partial<StoredModel> | null;
    const valid = model?.format === 1 && typeof model.url === "string" && typeof model.files === "object";
    return valid ? (model as StoredModel) : undefined;
  } catch {
    return undefined;
  }
}
