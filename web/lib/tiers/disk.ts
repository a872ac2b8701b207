/** The disk tier: blocks of a model's files in the origin's private file system, each with its hash. */

import { Lanes } from "./lanes.js";
import { blockName, blockNumber, folderName, MODEL_FILE, parseModel, ROOT, type StoredFile, type StoredModel } from "./layout.js";
import { findFolder, readFile, readText, writeFile } from "./opfs.js";
import type { Bytes } from "./source.js";

const HASH_BYTES = 32;

/** Blocks that are written at the same time; more are no faster. */
const MOST_WRITES = 4;

/** Bytes that may wait to be written before readers wait too: a disk slower than the network must not fill the memory. */
const MOST_WAITING = 32 << 20;

export interface DiskReport {
  read(bytes: number): void;
  /** A block did not have its hash. */
  spoilt(file: string): void;
  /** Nothing more can be kept; told once. */
  off(message: string): void;
}

/** The folder of one model. Several tabs may use it at the same time: files appear whole, and equal names have equal content. */
export class ModelFolder {
  readonly #folder: FileSystemDirectoryHandle;
  readonly #report: DiskReport;
  readonly #lanes = new Lanes(MOST_WRITES);
  /** What `model.json` said when it was opened, and what this load has noted since; other tabs may note other things. */
  readonly #model: StoredModel;
  /** The files that this load has asked for. */
  readonly #asked = new Set<string>();
  #waiting = 0;
  #hasRoom: (() => void)[] = [];
  #isOff = false;
  /** Writes of `model.json`, one after the other. */
  #noting: Promise<void> = Promise.resolve();

  private constructor(folder: FileSystemDirectoryHandle, model: StoredModel, report: DiskReport) {
    this.#folder = folder;
    this.#model = model;
    this.#report = report;
  }

  /** The folder for what is loaded from `url`; `undefined`, and reported, where the browser gives none. */
  static async open(url: string, report: DiskReport): Promise<ModelFolder | undefined> {
    try {
      const root = await (await navigator.storage.getDirectory()).getDirectoryHandle(ROOT, { create: true });
      const folder = await root.getDirectoryHandle(await folderName(url), { create: true });
      const stored = parseModel(await readText(folder, MODEL_FILE));
      return new ModelFolder(folder, stored ?? nothingOf(url), report);
    } catch (error) {
      report.off(`nothing is kept for the next visit, because the browser offers no storage here (${reason(error)})`);
      return undefined;
    }
  }

  get isOff(): boolean {
    return this.#isOff;
  }

  /** Whether everything that loading needs was here when the model was opened or is now, in a version that was the server's. */
  get isWhole(): boolean {
    return this.#model.whole;
  }

  /** What is known of a file that is asked for: `null` if there is none of this name, `undefined` if nothing is known. */
  known(file: string): StoredFile | null | undefined {
    this.#asked.add(file);
    return knownOf(this.#model, file);
  }

  /** Notes that the server has no such file. */
  noteAbsent(file: string): void {
    if (this.known(file) === null) return;
    this.#note((model) => {
      if (model.files[file]) model.whole = false;
      model.files[file] = null;
    });
  }

  /** The blocks of a file, none if it is new or has changed. */
  async open(file: string, stored: StoredFile): Promise<DiskFile> {
    if (this.known(file)?.folder !== stored.folder) {
      this.#note((model) => {
        model.files[file] = stored;
        model.whole = false;
      });
      // Another tab would take a folder that nothing names for one that was left behind.
      await this.#noting;
    }
    const here = new Set<number>();
    const folder = await findFolder(this.#folder, stored.folder);
    if (folder !== undefined) {
      for await (const name of folder.keys()) {
        const block = blockNumber(name);
        if (block !== undefined) here.add(block);
      }
    }
    return new DiskFile(this, file, stored.folder, here);
  }

  /** Notes that the model was loaded just now. */
  noteUse(): void {
    this.#note((model) => (model.lastUsed = Date.now()));
  }

  /** Notes that everything there is to load was loaded, once it is written, and forgets files that the model no longer has. */
  async noteWhole(): Promise<void> {
    if (this.#model.whole) return;
    await this.drain();
    if (this.#isOff) return;
    this.#note((model) => {
      const folderOf = (from: StoredModel, file: string) => knownOf(from, file)?.folder;
      const isOurs = [...this.#asked].every((file) => folderOf(model, file) === folderOf(this.#model, file));
      // Else another tab found another version on the server meanwhile, and what is here is that one's.
      if (!isOurs) return;
      model.whole = true;
      for (const file of Object.keys(model.files)) if (!this.#asked.has(file)) delete model.files[file];
    });
  }

  /** Waits until everything is written. */
  async drain(): Promise<void> {
    while (this.#waiting > 0) await new Promise<void>((resolve) => this.#hasRoom.push(resolve));
    await this.#noting;
  }

  /** Waits until writing has caught up with reading. */
  async room(): Promise<void> {
    while (this.#waiting > MOST_WAITING) await new Promise<void>((resolve) => this.#hasRoom.push(resolve));
  }

  /** Writes a block, and tells whether that went well. */
  async save(folder: string, block: number, bytes: Bytes): Promise<boolean> {
    if (this.#isOff) return false;
    this.#waiting += bytes.length;
    try {
      await this.#lanes.run(true, async () => {
        const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
        const handle = await this.#folder.getDirectoryHandle(folder, { create: true });
        await writeFile(handle, blockName(block), [hash, bytes]);
      });
      return true;
    } catch (error) {
      this.#turnOff(error);
      return false;
    } finally {
      this.#waiting -= bytes.length;
      for (const wake of this.#hasRoom.splice(0)) wake();
    }
  }

  /** The bytes of a block, or `undefined` if it is not there or spoilt. */
  async load(folder: string, file: string, block: number, length: number): Promise<Bytes | undefined> {
    const handle = await findFolder(this.#folder, folder);
    const content = handle && (await readFile(handle, blockName(block)));
    // It is empty if writing it was cut off, as by a reload of the page.
    if (content === undefined || content.length === 0) return undefined;
    const bytes = content.subarray(HASH_BYTES);
    if (bytes.length === length) {
      const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
      if (hash.every((byte, index) => byte === content[index])) {
        this.#report.read(length);
        return bytes;
      }
    }
    this.#report.spoilt(file);
    return undefined;
  }

  #turnOff(error: unknown): void {
    if (this.#isOff) return;
    this.#isOff = true;
    const full = (error as Error | null)?.name === "QuotaExceededError";
    this.#report.off(
      full
        ? "the storage that the browser gives this site is full, so the rest of the model is not kept for the next visit; removing other models makes room"
        : `the rest of the model is not kept for the next visit, because it cannot be written (${reason(error)})`,
    );
  }

  /** Changes what is noted here and what `model.json` says, which other tabs may have changed since it was read. */
  #note(change: (model: StoredModel) => void): void {
    change(this.#model);
    if (this.#isOff) return;
    const write = async () => {
      const model = parseModel(await readText(this.#folder, MODEL_FILE)) ?? nothingOf(this.#model.url);
      change(model);
      await writeFile(this.#folder, MODEL_FILE, [new TextEncoder().encode(JSON.stringify(model))]);
      await this.#removeUnnamed(model);
    };
    const alone = () => navigator.locks.request(`moxel-cache ${this.#folder.name}`, write);
    this.#noting = this.#noting.then(alone).catch((error: unknown) => this.#turnOff(error));
  }

  /** Removes the blocks of versions and files that the model has no more. */
  async #removeUnnamed(model: StoredModel): Promise<void> {
    const named = new Set(Object.values(model.files).map((file) => file?.folder));
    const unnamed: string[] = [];
    for await (const { kind, name } of this.#folder.values()) {
      if (kind === "directory" && !named.has(name)) unnamed.push(name);
    }
    // What another tab reads from just now stays until the next time.
    for (const name of unnamed) await this.#folder.removeEntry(name, { recursive: true }).catch(() => undefined);
  }
}

function nothingOf(url: string): StoredModel {
  return { format: 1, url, lastUsed: 0, whole: false, files: {} };
}

/** File names come from the web: one may be that of a property which every object has. */
function knownOf({ files }: StoredModel, file: string): StoredFile | null | undefined {
  return Object.hasOwn(files, file) ? files[file] : undefined;
}

/** The blocks of one version of one file. */
export class DiskFile {
  readonly #model: ModelFolder;
  readonly #file: string;
  readonly #folder: string;
  readonly #here: Set<number>;
  /** Blocks that are being written, and are as good as written for whoever reads. */
  readonly #writing = new Map<number, Bytes>();

  constructor(model: ModelFolder, file: string, folder: string, here: Set<number>) {
    this.#model = model;
    this.#file = file;
    this.#folder = folder;
    this.#here = here;
  }

  has(block: number): boolean {
    return this.#here.has(block) || this.#writing.has(block);
  }

  async load(block: number, length: number): Promise<Bytes | undefined> {
    const writing = this.#writing.get(block);
    if (writing !== undefined) return writing;
    const bytes = await this.#model.load(this.#folder, this.#file, block, length);
    if (bytes === undefined) this.#here.delete(block);
    return bytes;
  }

  async save(block: number, bytes: Bytes): Promise<boolean> {
    this.#writing.set(block, bytes);
    const saved = await this.#model.save(this.#folder, block, bytes);
    this.#writing.delete(block);
    if (saved) this.#here.add(block);
    return saved;
  }

  room(): Promise<void> {
    return this.#model.room();
  }
}

function reason(error: unknown): string {
  return error instanceof Error && error.message !== "" ? error.message : String((error as Error | null)?.name ?? error);
}
