/** Decides what to fetch before it is asked for. */

const FIRST_WINDOW = 1 << 20;
const LARGEST_WINDOW = 24 << 20;

/**
 * Follows the reads of one file. Reads that stay near each other, forwards or backwards, double the window that is
 * fetched beyond them; one that goes elsewhere closes it. So what is fetched in vain is at most about what was read.
 */
export class ReadAhead {
  /** What was asked for or fetched ahead since the last jump. */
  #start = 0;
  #end = 0;
  #window = 0;

  /** What should be on its way, once these bytes of a file of `size` are asked for; it includes them. */
  next(offset: number, length: number, size: number): { offset: number; length: number } {
    const end = offset + length;
    const reach = Math.max(this.#window, FIRST_WINDOW);
    const isNear = this.#end > 0 && offset <= this.#end + reach && end >= this.#start - reach;
    if (!isNear) {
      [this.#start, this.#end, this.#window] = [offset, end, 0];
      return { offset, length };
    }
    this.#window = Math.min(Math.max(2 * this.#window, FIRST_WINDOW), LARGEST_WINDOW);
    // A gap that was jumped over is near what was read, and likely to be read next.
    const from = Math.min(offset, Math.max(this.#end, offset - reach));
    const to = Math.min(size, end + this.#window);
    this.#start = Math.min(this.#start, offset);
    this.#end = Math.max(this.#end, to);
    return { offset: from, length: to - from };
  }
}
