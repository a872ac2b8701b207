/** Which kernels were chosen by measuring, kept for the next visit. */

import { ROOT } from "./tiers/layout.js";
import { readText, writeFile } from "./tiers/opfs.js";

/** In the cache's own folder, so that clearing the cache clears it too. */
const FILE = "kernels.json";

/** Choices that are kept at most; the oldest go first. */
const MOST = 50;

interface Known {
  /** What the choice was measured for: the browser's version, which brings other drivers, and the engine's own key. */
  for: string;
  kernels: string;
}

/** The engine's choices by its keys, both as texts that only it reads. A browser without storage, or a damaged file, knows none. */
export class KnownKernels {
  async find(key: string): Promise<string | undefined> {
    const wanted = fullKey(key);
    try {
      return (await read(await folder(false))).find((known) => known.for === wanted)?.kernels;
    } catch {
      return undefined;
    }
  }

  /** Keeps a choice, instead of an earlier one for the same. */
  async save(key: string, kernels: string): Promise<void> {
    const wanted = fullKey(key);
    try {
      const root = await folder(true);
      const others = (await read(root)).filter((known) => known.for !== wanted);
      const all = [...others, { for: wanted, kernels }].slice(-MOST);
      await writeFile(root, FILE, [new TextEncoder().encode(JSON.stringify(all))]);
    } catch {
      // The next visit measures again.
    }
  }
}

function fullKey(key: string): string {
  return `${navigator.userAgent} ${key}`;
}

async function folder(create: boolean): Promise<FileSystemDirectoryHandle> {
  return (await navigator.storage.getDirectory()).getDirectoryHandle(ROOT, { create });
}

/** A damaged file holds nothing. */
async function read(root: FileSystemDirectoryHandle): Promise<Known[]> {
  try {
    const all = JSON.parse(await readText(root, FILE)) as unknown;
    return Array.isArray(all) ? all.filter(isKnown) : [];
  } catch {
    return [];
  }
}

function isKnown(entry: Partial<Known> | null): entry is Known {
  return typeof entry?.for === "string" && typeof entry.kernels === "string";
}
