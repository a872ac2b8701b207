// A text in Markdown that grows. Blocks that are finished keep their elements, so that a selection in them stays and the
// work of a frame does not grow with the text; the last block is made anew.

import { blocks, render } from "./markdown.js";

export class GrowingMarkdown {
  readonly #element: HTMLElement;
  /** Letters of the text whose elements are final. */
  #settled = 0;
  /** The elements of the rest. */
  #tail: ChildNode[] = [];
  #text = "";
  #frame: number | undefined;

  constructor(element: HTMLElement) {
    this.#element = element;
  }

  /** Shows this text, which begins with the one before, at the next frame. */
  grow(text: string): void {
    this.#text = text;
    this.#frame ??= requestAnimationFrame(() => this.finish());
  }

  /** Shows everything now. */
  finish(): void {
    if (this.#frame !== undefined) cancelAnimationFrame(this.#frame);
    this.#frame = undefined;
    const tokens = blocks(this.#text.slice(this.#settled));
    // Blank lines may still turn out to be inside of the block before them (a list), so it is not final before another began.
    const open = tokens.findLastIndex(({ type }) => type !== "space");
    const final = tokens.slice(0, Math.max(open, 0));
    for (const node of this.#tail) node.remove();
    this.#element.append(render(final));
    this.#settled += final.reduce((length, { raw }) => length + raw.length, 0);
    const rest = render(tokens.slice(final.length));
    this.#tail = [...rest.childNodes];
    this.#element.append(rest);
  }
}
