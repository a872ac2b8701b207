/** A model behind HTTP: finds its files, and reads them through the cache. */

import { versionText } from "./answer.js";
import { BlockFile, type BlockMemory } from "./block-file.js";
import { Blocks } from "./blocks.js";
import type { DiskFile, ModelFolder } from "./disk.js";
import { folderName, type StoredFile } from "./layout.js";
import type { FileHead, Found, Network } from "./network.js";
import { Unanswered } from "./patience.js";
import { checkName, ReadError, type Bytes, type ByteSource } from "./source.js";

/** Asked for when a file is looked for: a first block of most files. */
const TASTE = 512 << 10;

export class WebSource implements ByteSource {
  readonly name: string;
  readonly local = false;
  readonly #folder: string;
  readonly #query: string;
  readonly #network: Network;
  readonly #disk: ModelFolder | undefined;
  readonly #memory: BlockMemory;
  readonly #files = new Map<string, Promise<BlockFile | undefined>>();
  /** The server was silent about a file that is in the cache: the others are not asked for either. */
  #isOffline = false;

  /** `folder` ends with a slash; `query` goes with every file. */
  constructor(folder: string, query: string, network: Network, disk: ModelFolder | undefined, memory: BlockMemory) {
    this.name = folder;
    this.#folder = folder;
    this.#query = query;
    this.#network = network;
    this.#disk = disk;
    this.#memory = memory;
  }

  async size(file: string): Promise<number | undefined> {
    return (await this.#open(file))?.head.size;
  }

  async version(file: string): Promise<string | undefined> {
    const open = await this.#open(file);
    return open && versionText(open.head.version);
  }

  async read(file: string, offset: number, length: number): Promise<Bytes> {
    const open = await this.#open(file);
    if (open === undefined) throw new ReadError("there is no such file on the server");
    return open.read(offset, length);
  }

  #open(file: string): Promise<BlockFile | undefined> {
    let open = this.#files.get(file);
    if (open === undefined) {
      open = this.#find(file);
      this.#files.set(file, open);
      open.catch(() => this.#files.delete(file));
    }
    return open;
  }

  async #find(file: string): Promise<BlockFile | undefined> {
    checkName(file);
    const url = `${this.#folder}${encodeURIComponent(file)}${this.#query}`;
    const found = await this.#lookUp(file, url);
    if (found === undefined) return undefined;
    const blocks = new Blocks(found.size);
    const open = new BlockFile(url, found, blocks, this.#network, await this.#openOnDisk(file, found, blocks), this.#memory);
    if (found.first !== undefined) await open.acceptFirst(found.first);
    return open;
  }

  /** Asks the server once for each load; where it is silent, what is known of the file stands. */
  async #lookUp(file: string, url: string): Promise<(FileHead & Partial<Found>) | undefined> {
    const known = this.#disk?.known(file);
    if (known !== undefined && this.#isOffline) return known ?? undefined;
    try {
      if (known && (await this.#network.isSame(url, known))) return known;
      const found = await this.#network.find(url, TASTE, known !== undefined);
      if (found === undefined) this.#disk?.noteAbsent(file);
      return found;
    } catch (error) {
      if (known === undefined || !(error instanceof Unanswered)) throw error;
      this.#isOffline = true;
      return known ?? undefined;
    }
  }

  async #openOnDisk(file: string, head: FileHead, blocks: Blocks): Promise<DiskFile | undefined> {
    const version = versionText(head.version);
    // What has no version cannot be known to be the same at the next visit.
    if (this.#disk === undefined || version === undefined) return undefined;
    const folder = await folderName(`${file}\n${version}\n${head.size}\n${blocks.bytes}`);
    const stored: StoredFile = {
      size: head.size, version: head.version, ranges: head.ranges, folder, blockBytes: blocks.bytes,
    };
    return this.#disk.open(file, stored);
  }
}
