// The origin's private file system and its locks in memory, in place of a browser's.

/** Gives this process a new empty origin, and returns its root folder. */
export function freshOrigin() {
  const root = new Folder("");
  const navigator = { storage: { getDirectory: async () => root }, locks: new Locks() };
  Object.defineProperty(globalThis, "navigator", { value: navigator, configurable: true, writable: true });
  return root;
}

const missing = (name) => new DOMException(`${name} is not there`, "NotFoundError");

class Folder {
  kind = "directory";
  entries = new Map();

  constructor(name) {
    this.name = name;
  }

  async getDirectoryHandle(name, { create = false } = {}) {
    return this.#entry(name, create, Folder);
  }

  async getFileHandle(name, { create = false } = {}) {
    return this.#entry(name, create, StoredFile);
  }

  #entry(name, create, Kind) {
    if (!this.entries.has(name) && create) this.entries.set(name, new Kind(name));
    const entry = this.entries.get(name);
    if (!(entry instanceof Kind)) throw missing(name);
    return entry;
  }

  async removeEntry(name) {
    if (!this.entries.delete(name)) throw missing(name);
  }

  async *keys() {
    yield* [...this.entries.keys()];
  }

  async *values() {
    yield* [...this.entries.values()];
  }
}

class StoredFile {
  kind = "file";
  content = new Blob();

  constructor(name) {
    this.name = name;
  }

  async getFile() {
    return this.content;
  }

  async createWritable() {
    let written;
    return { write: async (blob) => (written = blob), close: async () => (this.content = written), abort: async () => undefined };
  }
}

class Locks {
  #held = new Map();

  request(name, work) {
    const turn = (this.#held.get(name) ?? Promise.resolve()).then(work);
    this.#held.set(name, turn.catch(() => undefined));
    return turn;
  }
}
