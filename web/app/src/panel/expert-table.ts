import { fill, h } from "../ui/dom.js";
import { percent } from "../ui/format.js";
import type { Row } from "./expert-data.js";

/** The expert map in words: for screen readers, and for whoever wants the figures. Made only while it is open. */
export class ExpertTable {
  readonly element: HTMLDetailsElement;
  readonly #body = h("tbody");
  #rows: Row[] = [];

  constructor() {
    const heads = ["Layer", "On the GPU", "Hits", "Misses", "Hit rate", "Most chosen"].map((text) => h("th", { scope: "col" }, text));
    const table = h("table", { id: "expert-table" }, h("caption", { class: "visually-hidden" }, "Experts by layer"), h("thead", {}, h("tr", {}, ...heads)), this.#body);
    this.element = h("details", { class: "map-table", ontoggle: () => this.show(this.#rows) }, h("summary", {}, "As a table"), h("div", { class: "table-scroll", tabindex: 0, role: "region", "aria-label": "Experts by layer" }, table));
  }

  show(rows: Row[]): void {
    this.#rows = rows;
    if (this.element.open) fill(this.#body, ...rows.map(tableRow));
  }
}

function tableRow({ layer, hits, misses, cells }: Row): HTMLElement {
  const resident = cells.filter((cell) => cell.resident).length;
  const most = cells.filter(({ chosen }) => chosen > 0).sort((a, b) => b.chosen - a.chosen).slice(0, 3);
  const total = hits + misses;
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, layer),
    h("td", {}, `${resident} of ${cells.length}`),
    h("td", {}, hits),
    h("td", {}, misses),
    h("td", {}, total > 0 ? percent(hits / total) : "–"),
    h("td", {}, most.map(({ expert, chosen }) => `${expert} (${chosen}×)`).join(", ") || "–"),
  );
}
