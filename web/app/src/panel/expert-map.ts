// The expert map: a row for each MoE layer, a square for each expert. Colour: how often it was chosen. Size: a full square is on
// the GPU, a small one is streamed when it is chosen. A ring: chosen a moment ago.

import { h, setText } from "../ui/dom.js";
import { dark } from "../ui/theme.js";
import { colourOf } from "./colours.js";
import { describe, type Cell, type Row } from "./expert-data.js";

const LABEL = 26;
const LARGEST = 26;
const SMALLEST = 5;

export class ExpertMap {
  readonly element: HTMLElement;
  readonly #canvas: HTMLCanvasElement;
  readonly #scroller: HTMLElement;
  readonly #tip = h("p", { class: "map-tip", id: "expert-tip", "aria-live": "polite" }, "Point at a square, or use the arrow keys.");
  readonly #most = h("span", {}, "often");
  readonly #scale = h("canvas", { class: "map-scale", width: 120, height: 10, "aria-hidden": "true" });
  #rows: Row[] = [];
  #cell = LARGEST;
  /** The square that the tip is about: [row, expert]. */
  #pointed: [number, number] | undefined;

  constructor(signal: AbortSignal) {
    this.#canvas = h("canvas", { id: "expert-map", class: "map-canvas", role: "img", tabindex: 0, "aria-describedby": "expert-tip" });
    this.#scroller = h("div", { class: "map-scroll" }, this.#canvas);
    this.element = h("div", { class: "map" }, this.#scroller, this.#tip, this.#legend());
    this.#canvas.addEventListener("pointermove", (event) => this.#point(event));
    this.#canvas.addEventListener("pointerdown", (event) => this.#point(event));
    this.#canvas.addEventListener("keydown", (event) => this.#key(event));
    const resized = new ResizeObserver(() => this.#draw());
    resized.observe(this.#scroller);
    signal.addEventListener("abort", () => resized.disconnect());
    dark.subscribe(() => this.#draw(), signal);
  }

  show(rows: Row[]): void {
    this.#rows = rows;
    const cells = rows.flatMap((row) => row.cells);
    const resident = cells.filter((cell) => cell.resident).length;
    this.#canvas.setAttribute("aria-label", `Expert map: ${rows.length} layers with ${rows[0]?.cells.length ?? 0} experts each, ${resident} of ${cells.length} on the GPU. The table below has the figures.`);
    this.#draw();
    this.#tell();
  }

  #draw(): void {
    const columns = Math.max(...this.#rows.map(({ cells }) => cells.length), 1);
    const room = this.#scroller.clientWidth - LABEL;
    if (room <= 0 || this.#rows.length === 0) return;
    this.#cell = Math.max(SMALLEST, Math.min(LARGEST, Math.floor(room / columns)));
    const [width, height] = [LABEL + columns * this.#cell, this.#rows.length * this.#cell];
    const scale = devicePixelRatio;
    const canvas = this.#canvas;
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    if (!context) return;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    const style = getComputedStyle(canvas);
    const highest = Math.max(...this.#rows.flatMap(({ cells }) => cells.map(({ share }) => share)), 1e-9);
    const every = Math.ceil(12 / this.#cell);
    context.font = `10px ${style.fontFamily}`;
    context.textAlign = "right";
    context.textBaseline = "middle";
    this.#rows.forEach(({ layer, cells }, row) => {
      context.fillStyle = style.color;
      if (row % every === 0) context.fillText(String(layer), LABEL - 6, (row + 0.5) * this.#cell);
      for (const cell of cells) this.#square(context, cell, row, highest, style.color);
    });
    setText(this.#most, `${Math.round(100 * Math.min(highest, 1))} % of tokens`);
    drawScale(this.#scale);
  }

  #square(context: CanvasRenderingContext2D, cell: Cell, row: number, highest: number, line: string): void {
    const size = this.#cell;
    const inset = cell.resident ? Math.max(0.5, size * 0.05) : size * 0.3;
    const [x, y] = [LABEL + cell.expert * size, row * size];
    context.fillStyle = colourOf(cell.share / highest, dark.value);
    context.beginPath();
    context.roundRect(x + inset, y + inset, size - 2 * inset, size - 2 * inset, size > 10 ? 2 : 0);
    context.fill();
    const pointed = this.#pointed?.[0] === row && this.#pointed[1] === cell.expert;
    if (!cell.recent && !pointed) return;
    context.strokeStyle = line;
    context.lineWidth = pointed ? 2 : 1;
    context.strokeRect(x + 1, y + 1, size - 2, size - 2);
  }

  #point({ offsetX, offsetY }: PointerEvent): void {
    this.#select(Math.floor(offsetY / this.#cell), Math.floor((offsetX - LABEL) / this.#cell));
  }

  #key(event: KeyboardEvent): void {
    const steps: Record<string, [number, number]> = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    const [row, expert] = this.#pointed ?? [0, -step[1]];
    this.#select(row + step[0], expert + step[1]);
  }

  #select(row: number, expert: number): void {
    if (!this.#rows[row]?.cells[expert]) return;
    this.#pointed = [row, expert];
    this.#draw();
    this.#tell();
  }

  #tell(): void {
    const cell = this.#pointed && this.#rows[this.#pointed[0]]?.cells[this.#pointed[1]];
    if (cell) setText(this.#tip, describe(cell));
  }

  #legend(): HTMLElement {
    const sample = (kind: string, label: string) => h("span", { class: "legend-item" }, h("span", { class: `legend-square ${kind}`, "aria-hidden": "true" }), label);
    return h(
      "div",
      { class: "map-legend" },
      h("span", { class: "legend-item" }, "never", this.#scale, this.#most),
      sample("full", "on the GPU"),
      sample("small", "streamed"),
      sample("ring", "just chosen"),
    );
  }
}

function drawScale(canvas: HTMLCanvasElement): void {
  const context = canvas.getContext("2d");
  for (let x = 0; context && x < canvas.width; x += 1) {
    context.fillStyle = colourOf(x / (canvas.width - 1), dark.value);
    context.fillRect(x, 0, 1, canvas.height);
  }
}
