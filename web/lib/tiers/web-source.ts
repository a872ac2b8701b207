/** A model behind HTTP: finds its files, and reads them through the cache. */

import { matches, versionText } from "./answer.js";
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
  /** The server has something that is not in the cache: what is there may be of another version of the model. */
  #hasNews = false;

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

  /**
   * Asks the server once for each load. Where it is silent, what is known of the file stands, unless other files of this
   * load were not as they are known: a model of which a part is old and a part new would compute nonsense, silently.
   */
  async #lookUp(file: string, url: string): Promise<(FileHead & Partial<Found>) | undefined> {
    const known = this.#disk?.known(file);
    if (known !== undefined && this.#isOffline) return known ?? undefined;
    // A model that is not whole here needs the server anyway.
    const impatient = known !== undefined && !this.#hasNews && (this.#disk?.isWhole ?? false);
    let mayStand = known !== undefined;
    let found: Found | undefined;
    try {
      if (known && (await this.#network.isSame(url, known, impatient))) return known;
      mayStand &&= known === null;
      found = await this.#network.find(url, TASTE, impatient && mayStand);
    } catch (error) {
      if (!mayStand || this.#hasNews || !(error instanceof Unanswered)) throw error;
      this.#isOffline = true;
      return known ?? undefined;
    }
    if (isNews(known, found)) this.#noteNews();
    if (found === undefined) this.#disk?.noteAbsent(file);
    return found;
  }

  #noteNews(): void {
    this.#hasNews = true;
    if (!this.#isOffline) return;
    throw new ReadError("the server did not answer for other files, which were taken from the cache, but has a new one here; load the model again");
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

/** Whether the server's answer is another than the cache's. Some servers cannot tell by `HEAD` that a file is the same. */
function isNews(known: FileHead | null | undefined, found: FileHead | undefined): boolean {
  if (known && found) return known.size !== found.size || !matches(known.version, found.version);
  return Boolean(known) || found !== undefined;
}
