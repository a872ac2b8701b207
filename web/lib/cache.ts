/** The models in the disk cache, for the page that manages them. */

import { MoxelError } from "./errors.js";
import { cacheUrl } from "./location.js";
import { Blocks } from "./tiers/blocks.js";
import { blockNumber, folderName, MODEL_FILE, parseModel, ROOT, type StoredModel } from "./tiers/layout.js";
import { findFolder, isEmpty, readText } from "./tiers/opfs.js";
import type { CachedModel } from "./types.js";

export interface ModelCache {
  /** The models, the one that was used last first. */
  list(): Promise<CachedModel[]>;
  /** Removes what is kept of the model that was loaded from this URL; one that is loaded goes on without. */
  remove(url: string | URL): Promise<void>;
  clear(): Promise<void>;
  /** Bytes that this site has stored in all, and may store. */
  estimate(): Promise<{ used: number; quota: number }>;
  /** Asks the browser not to clear this site's storage when space is short; tells whether it will not. */
  persist(): Promise<boolean>;
}

export const cache: ModelCache = {
  async list() {
    const root = await openRoot();
    const models: CachedModel[] = [];
    if (root === undefined) return models;
    for await (const entry of root.values()) {
      if (entry.kind !== "directory") continue;
      const folder = entry as FileSystemDirectoryHandle;
      const model = parseModel(await readText(folder, MODEL_FILE));
      if (model !== undefined) models.push(await describe(folder, model));
    }
    return models.sort((one, other) => other.lastUsed.getTime() - one.lastUsed.getTime());
  },

  async remove(url) {
    const root = await openRoot();
    if (root !== undefined) await removeFolder(root, await folderName(cacheUrl(url, pageUrl())));
  },

  async clear() {
    const root = await openRoot();
    if (root === undefined) return;
    const names: string[] = [];
    for await (const name of root.keys()) names.push(name);
    for (const name of names) await removeFolder(root, name);
  },

  async estimate() {
    const { usage, quota } = await navigator.storage.estimate();
    return { used: usage ?? 0, quota: quota ?? 0 };
  },

  persist() {
    return navigator.storage.persist();
  },
};

/** What relative URLs are relative to; a worker has no document. */
export function pageUrl(): string | undefined {
  return globalThis.document?.baseURI ?? globalThis.location?.href;
}

/** `undefined` where nothing was ever kept, or the browser gives no storage. */
async function openRoot(): Promise<FileSystemDirectoryHandle | undefined> {
  try {
    return await findFolder(await navigator.storage.getDirectory(), ROOT);
  } catch {
    return undefined;
  }
}

async function removeFolder(root: FileSystemDirectoryHandle, name: string): Promise<void> {
  try {
    await root.removeEntry(name, { recursive: true });
  } catch (error) {
    if ((error as Error).name === "NotFoundError") return;
    throw new MoxelError("read", "the cached files are being written just now; try again when loading has ended", { cause: error });
  }
}

async function describe(folder: FileSystemDirectoryHandle, model: StoredModel): Promise<CachedModel> {
  let bytes = 0;
  let totalBytes = 0;
  for (const file of Object.values(model.files)) {
    if (file === null) continue;
    totalBytes += file.size;
    const blocks = new Blocks(file.size, file.blockBytes);
    const stored = await findFolder(folder, file.folder);
    if (stored === undefined) continue;
    for await (const [name, handle] of stored.entries()) {
      const block = blockNumber(name);
      if (block === undefined || block >= blocks.count) continue;
      // Of a model that was never whole, some writes may have been cut off.
      if (model.whole || !(await isEmpty(handle))) bytes += blocks.lengthOf(block);
    }
  }
  const complete = totalBytes > 0 && (model.whole || bytes === totalBytes);
  return { url: model.url, bytes, totalBytes, complete, lastUsed: new Date(model.lastUsed) };
}
