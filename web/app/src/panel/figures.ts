import { h, setText } from "../ui/dom.js";

/** Names and values, whose values change in place; a name without a value is not shown. */
export class Figures {
  readonly element: HTMLDListElement;
  readonly #values = new Map<string, HTMLElement>();

  constructor(names: string[], id: string) {
    this.element = h("dl", { class: "figures-list", id });
    for (const name of names) {
      const value = h("dd", { "data-figure": name });
      this.#values.set(name, value);
      this.element.append(h("div", { hidden: true }, h("dt", {}, name), value));
    }
  }

  static of(id: string, values: Record<string, string | undefined>): Figures {
    const figures = new Figures(Object.keys(values), id);
    figures.show(values);
    return figures;
  }

  show(values: Record<string, string | undefined>): void {
    for (const [name, element] of this.#values) {
      const value = values[name];
      if (element.parentElement) element.parentElement.hidden = value === undefined;
      setText(element, value ?? "");
    }
  }
}
