/** Files that the user picked. */

import { checkName, pastTheEnd, ReadError, type Bytes, type ByteSource } from "./source.js";

export class PickedFiles implements ByteSource {
  readonly name: string;
  readonly local = true;
  readonly #files: ReadonlyMap<string, File>;
  readonly #wasRead: (bytes: number) => void;

  constructor(name: string, files: ReadonlyMap<string, File>, wasRead: (bytes: number) => void) {
    this.name = name;
    this.#files = files;
    this.#wasRead = wasRead;
  }

  async size(file: string): Promise<number | undefined> {
    checkName(file);
    return this.#files.get(file)?.size;
  }

  async version(file: string): Promise<string | undefined> {
    const picked = this.#files.get(file);
    return picked && `${picked.lastModified} ${picked.size}`;
  }

  async read(file: string, offset: number, length: number): Promise<Bytes> {
    const picked = this.#files.get(file);
    if (picked === undefined) throw new ReadError("it is not among the picked files");
    if (offset + length > picked.size) throw pastTheEnd(offset, length, picked.size);
    try {
      const bytes = new Uint8Array(await picked.slice(offset, offset + length).arrayBuffer());
      this.#wasRead(bytes.length);
      return bytes;
    } catch {
      throw new ReadError("it was changed, moved or removed since it was picked; pick it again");
    }
  }
}
