// Markdown of a model as safe elements. Everything a model writes is outside input.

import DOMPurify from "dompurify";
import { Marked, type Token } from "marked";
import { copyButton } from "../ui/controls.js";
import { h } from "../ui/dom.js";

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    // Shown as it was written: a model that explains HTML means the letters.
    html: ({ text }) => escape(text),
    // An image's address could carry the conversation to a server: it stays a link that one has to follow.
    image({ href, text }) {
      return `<a href="${escape(href)}">${escape(text || href)}</a>`;
    },
  },
});

const ALLOWED = {
  ALLOWED_TAGS: [
    "p", "br", "hr", "h1", "h2", "h3", "h4", "h5", "h6", "em", "strong", "del", "code", "pre", "blockquote",
    "ul", "ol", "li", "input", "table", "thead", "tbody", "tr", "th", "td", "a",
  ],
  ALLOWED_ATTR: ["href", "class", "start", "type", "checked", "disabled", "align"],
  ALLOWED_URI_REGEXP: /^(https?|mailto):/i,
};

/** The blocks of a text, as marked sees them. */
export function blocks(text: string): Token[] {
  return marked.lexer(text);
}

/** Elements of some blocks. */
export function render(tokens: Token[]): DocumentFragment {
  const html = marked.parser(tokens);
  const fragment = DOMPurify.sanitize(html, { ...ALLOWED, RETURN_DOM_FRAGMENT: true });
  for (const link of fragment.querySelectorAll("a")) {
    link.target = "_blank";
    link.rel = "noopener noreferrer";
  }
  for (const table of fragment.querySelectorAll("table")) {
    const scroller = h("div", { class: "table-scroll" });
    table.replaceWith(scroller);
    scroller.append(table);
  }
  for (const code of fragment.querySelectorAll("pre > code")) dressCode(code);
  return fragment;
}

/** A code block gets a line with its language and a button that copies it. */
function dressCode(code: Element): void {
  const language = /language-(\S+)/.exec(code.className)?.[1] ?? "";
  const pre = code.parentElement;
  if (!pre) return;
  const box = h("div", { class: "code-block" });
  pre.replaceWith(box);
  // Without the last line's end: a shell that the text is pasted into would run it at once.
  const copied = () => (code.textContent ?? "").replace(/\n$/, "");
  // A long line is scrolled with the keyboard too.
  pre.tabIndex = 0;
  box.append(h("div", { class: "code-head" }, h("span", {}, language), copyButton("Copy code", copied)), pre);
}

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (letter) => `&#${letter.charCodeAt(0)};`);
}
