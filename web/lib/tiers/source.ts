/** What the engine reads a model through. */

/** Bytes that own their memory: what is kept, and what is written to files. */
export type Bytes = Uint8Array<ArrayBuffer>;

/** A folder of named files, read by ranges. */
export interface ByteSource {
  /** The folder's URL or the picked directory, for messages. */
  readonly name: string;
  /** Picked files, which are cheap to read. */
  readonly local: boolean;
  /** The size of a file, or `undefined` where there is no such file. */
  size(file: string): Promise<number | undefined>;
  /** Exactly these bytes. The caller does not change them: they may be kept for other readers. */
  read(file: string, offset: number, length: number): Promise<Bytes>;
  /** A text that changes when the content does; `undefined` where nothing tells. */
  version(file: string): Promise<string | undefined>;
}

/**
 * Why a file cannot be read. The message is a cause, as in `cannot read {file}: {cause}`: whoever asked names the file.
 */
export class ReadError extends Error {
  readonly code = "read";

  constructor(cause: string) {
    super(cause);
    this.name = "ReadError";
  }
}

/** The error for a range that a file of this size does not hold. */
export function pastTheEnd(offset: number, length: number, size: number): ReadError {
  const range = `bytes ${offset}..${offset + length}`;
  return new ReadError(`${range} were asked for, but the file has ${size} bytes (was it changed or cut off after it was opened?)`);
}

/** Refuses names that lead out of the folder; an index file written by somebody else could hold any. */
export function checkName(file: string): void {
  if (file === "" || file === "." || file === ".." || /[/\\]/.test(file)) {
    throw new ReadError("the name leads out of the model's folder");
  }
}
