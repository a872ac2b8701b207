/** Files in blocks: the unit in which bytes are fetched, kept and checked. */

/** Larger blocks would fetch much that nobody asked for at both ends of an expert; smaller ones would make too many files. */
const SMALL_BLOCK = 512 << 10;
const LARGE_BLOCK = 1 << 20;
const LARGE_FILE = 2 ** 31;

/** What one request fetches at most, so that a failure loses little and several connections share the work. */
const MOST_AT_ONCE = 2 << 20;

/** A run of blocks, the end excluded. */
export interface Run {
  start: number;
  end: number;
}

export class Blocks {
  readonly size: number;
  readonly bytes: number;
  readonly count: number;

  constructor(size: number, bytes = size > LARGE_FILE ? LARGE_BLOCK : SMALL_BLOCK) {
    this.size = size;
    this.bytes = bytes;
    this.count = Math.ceil(size / bytes);
  }

  /** Where the block begins in the file; of the block behind the last, where the file ends. */
  startOf(block: number): number {
    return Math.min(block * this.bytes, this.size);
  }

  lengthOf(block: number): number {
    return this.startOf(block + 1) - this.startOf(block);
  }

  /** The blocks that bytes of the file lie in. */
  covering(offset: number, length: number): Run {
    if (length === 0) return { start: 0, end: 0 };
    return { start: Math.floor(offset / this.bytes), end: Math.min(Math.ceil((offset + length) / this.bytes), this.count) };
  }

  /** The runs of blocks that are missing, each short enough for one request. */
  missing(run: Run, isMissing: (block: number) => boolean): Run[] {
    const most = Math.max(1, MOST_AT_ONCE / this.bytes);
    const runs: Run[] = [];
    for (let block = run.start; block < run.end; block += 1) {
      if (!isMissing(block)) continue;
      const last = runs.at(-1);
      if (last !== undefined && last.end === block && block - last.start < most) last.end = block + 1;
      else runs.push({ start: block, end: block + 1 });
    }
    return runs;
  }
}
