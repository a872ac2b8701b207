/** Which kernels were chosen by measuring, kept for the next visit. */

import { ROOT } from "./tiers/layout.js";
import { readText, writeFile } from "./tiers/opfs.js";

/** In the cache's own folder, so that clearing the cache clears it too. */
const FILE = "kernels.json";

/** Choices that are kept at most; the oldest go first. */
const MOST = 50;

interface Known {
  /** What the choice was measured for. */
  for: string;
  kernels: string;
}

/** The engine's choices by its keys, both as texts that only it reads. Without storage, or with a damaged file, those of this visit. */
export class KnownKernels {
  readonly #adapter: () => string;
  readonly #keeps: boolean;
  /** A lost device is replaced by one that computes alike, also where nothing may be kept. */
  readonly #here = new Map<string, string>();

  /** `adapter` tells the one that the engine has got; `keeps` is whether anything may stay for the next visit. */
  constructor(adapter: () => string, keeps: boolean) {
    this.#adapter = adapter;
    this.#keeps = keeps;
  }

  async find(key: string): Promise<string | undefined> {
    const wanted = this.#full(key);
    const known = this.#here.get(wanted);
    if (known !== undefined || !this.#keeps) return known;
    try {
      return (await read(await folder(false))).find((known) => known.for === wanted)?.kernels;
    } catch {
      return undefined;
    }
  }

  /** Keeps a choice, instead of an earlier one for the same. */
  async save(key: string, kernels: string): Promise<void> {
    const wanted = this.#full(key);
    this.#here.set(wanted, kernels);
    if (!this.#keeps) return;
    try {
      const root = await folder(true);
      const others = (await read(root)).filter((known) => known.for !== wanted);
      const all = [...others, { for: wanted, kernels }].slice(-MOST);
      await writeFile(root, FILE, [new TextEncoder().encode(JSON.stringify(all))]);
    } catch {
      // The next visit measures again.
    }
  }

  /** The engine's key, and what its bindings cannot tell: which adapter, and by the browser's version which drivers. */
  #full(key: string): string {
    return [navigator.userAgent, this.#adapter(), key].join("\n");
  }
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
