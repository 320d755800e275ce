// YAML with line numbers, colours and marked lines: a textarea over its own coloured copy.
import { h } from "/static/dom.js";

export class Editor {
  constructor(changed) {
    this.text = h("textarea", { spellcheck: false, wrap: "off", autocapitalize: "off", id: "yaml", "aria-label": "YAML" });
    this.copy = h("pre", { "aria-hidden": "true" });
    this.gutter = h("div", { class: "gutter", "aria-hidden": "true" });
    this.wrong = new Set();
    this.element = h("div", { class: "editor" }, this.gutter, h("div", { class: "paper" }, this.copy, this.text));
    this.text.addEventListener("input", () => { this.paint(); changed(); });
    this.text.addEventListener("scroll", () => this.scroll());
    this.text.addEventListener("keydown", (event) => {
      if (event.key !== "Tab" || event.shiftKey || event.ctrlKey) return;
      event.preventDefault();
      this.text.setRangeText("  ", this.text.selectionStart, this.text.selectionEnd, "end");
      this.text.dispatchEvent(new Event("input"));
    });
  }

  get value() { return this.text.value; }
  set value(text) { this.text.value = text; this.wrong.clear(); this.paint(); this.text.scrollTop = 0; }

  mark(lines) { this.wrong = new Set(lines); this.paint(); }

  go(line, column) {
    const lines = this.value.split("\n");
    const at = lines.slice(0, line - 1).reduce((sum, each) => sum + each.length + 1, 0) + column - 1;
    this.text.focus();
    this.text.setSelectionRange(at, at);
    this.text.scrollTop = Math.max(0, (line - 6) * 24);
  }

  paint() {
    const lines = this.value.split("\n");
    this.copy.replaceChildren(...lines.flatMap((line, i) => [this.line(line, this.wrong.has(i + 1)), "\n"]));
    this.gutter.replaceChildren(...lines.map((_, i) => h("div", { class: this.wrong.has(i + 1) ? "wrong" : "" }, String(i + 1))));
    this.scroll();
  }

  line(text, wrong) {
    const parts = [];
    const [, indent, key, rest] = text.match(/^(\s*(?:- )?)([\w-]+:(?=\s|$))?(.*)$/);
    parts.push(indent);
    if (key) parts.push(h("span", { class: "key" }, key));
    const [, value, comment] = rest.match(/^(.*?)((?:^|\s)#.*)?$/);
    if (value) {
      const kind = /^\s*-?[\d.]+\s*$|^\s*(true|false)\s*$/.test(value) ? "number" : /^\s*["']/.test(value) ? "text" : "";
      parts.push(kind ? h("span", { class: kind }, value) : value);
    }
    if (comment) parts.push(h("span", { class: "comment" }, comment));
    return h("span", { class: wrong ? "wrong" : "" }, parts);
  }

  scroll() {
    this.copy.scrollTop = this.text.scrollTop;
    this.copy.scrollLeft = this.text.scrollLeft;
    this.gutter.scrollTop = this.text.scrollTop;
  }
}
