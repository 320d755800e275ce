// The one question: what, where, how long, until when, and two buttons.
import { ask, h } from "/static/dom.js";
import { dot, slabNormal } from "/static/geometry.js";
import * as overlays from "/static/overlays.js";
import { draw } from "/static/raster.js";
import { minutes, number, t } from "/static/words.js";

const ROUND = 2 * Math.PI * 42;
const UNHEARD_MS = 3000;

export class Question {
  constructor(element, live, me) {
    Object.assign(this, { element, live, me, id: null });
    setInterval(() => this.tick(), 200);
  }

  // Shows the open question, or none.
  show(state, pictures) {
    const open = state.open;
    if (!open) { this.close(); return; }
    if (this.id !== open.request.id) this.build(open, state);
    this.paint(open, pictures);
  }

  close() {
    this.id = null;
    this.asked = null;
    this.element.hidden = true;
    this.element.replaceChildren();
  }

  build(asked, state) {
    const { request } = asked;
    this.id = request.id;
    this.asked = asked;
    this.sent = null;
    this.digits = h("b");
    this.arc = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    const ring = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    ring.setAttribute("viewBox", "0 0 100 100");
    const ground = this.arc.cloneNode();
    for (const circle of [ground, this.arc]) {
      for (const [name, value] of [["cx", 50], ["cy", 50], ["r", 42]]) circle.setAttribute(name, value);
      ring.append(circle);
    }
    this.arc.setAttribute("class", "left");
    this.arc.setAttribute("stroke-dasharray", ROUND);
    this.clock = h("div", { class: "clock" }, ring, this.digits);
    this.planned = h("div", { class: "planned" });
    this.after = h("div", { class: "after" }, t(this.me.answers ? "silent" : "may_not"));
    this.yes = h("button", { class: "yes", onclick: () => this.click("accept") }, t("yes"), h("small", {}, t("yes_more", { m: number(request.extra_minutes) })));
    this.no = h("button", { class: "no", onclick: () => this.click("decline") }, t("no"), h("small", {}, t("no_more")));
    this.yes.disabled = this.no.disabled = !this.me.answers;
    const lines = request.steps.map((step) => h("li", {}, h("span", {}, state.title(step.step)), h("span", {}, minutes(step.minutes))));
    if (lines.length > 1) lines.push(h("li", { class: "sum" }, h("span", {}, t("sum")), h("span", {}, minutes(request.extra_minutes))));
    this.element.replaceChildren(
      h("div", { class: "head" }, h("h2", {}, t("question")), this.clock),
      h("p", { class: "text" }, request.text),
      this.planned,
      h("ul", {}, lines),
      h("div", { class: "buttons" }, this.yes, this.no),
      this.after,
    );
    this.element.hidden = false;
    this.tick();
  }

  // What would be scanned, on up to two images whose planes cut it in different directions.
  paint(asked, pictures) {
    const slabs = asked.request.steps.map((step) => step.slab);
    const views = [], axes = new Set();
    for (const stack of [...pictures.series.values()].reverse()) {
      if (views.length === 2 || axes.has(stack.axis) || stack.role === "synthetic" || !stack.planes.length) continue;
      const plane = stack.planes[stack.nearest(slabs[0].centre)];
      const normal = slabNormal(slabs[0]);
      if (!plane.picture.pixels || Math.abs(dot(normal, plane.normal)) > 0.8 && views.length) continue;
      axes.add(stack.axis);
      views.push(plane);
    }
    this.planned.replaceChildren(...views.map((plane) => {
      const canvas = h("canvas", { width: 620, height: views.length > 1 ? 620 : 413 });
      const box = { x: 0, y: 0, width: canvas.width, height: canvas.height };
      const context = canvas.getContext("2d"), at = draw(context, plane, plane.picture.window, box);
      for (const slab of slabs) overlays.slab(context, at, slab, 2);
      return canvas;
    }));
  }

  tick() {
    if (!this.asked) return;
    const { asked_s, request } = this.asked;
    const left = Math.max(0, asked_s + request.countdown_s - this.live.now());
    const seconds = Math.ceil(left);
    this.digits.textContent = seconds < 100 ? seconds : `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
    this.arc.setAttribute("stroke-dashoffset", ROUND * (1 - left / Math.max(request.countdown_s, 1)));
    this.clock.classList.toggle("soon", left <= 10);
    this.clock.classList.toggle("long", seconds >= 100);
    if (left === 0) this.yes.disabled = this.no.disabled = true;
    if (this.sent && performance.now() - this.sent > UNHEARD_MS) this.after.textContent = t("unheard");
  }

  async click(kind) {
    this.yes.disabled = this.no.disabled = true;
    this.after.textContent = t("sending");
    try {
      await ask("/api/answer", { kind, request: this.id });
      this.sent = performance.now();
    } catch (error) {
      this.after.textContent = error.status === 409 ? t("too_late") : t("not_sent", { why: error.message });
      if (error.status !== 409) this.yes.disabled = this.no.disabled = false;
    }
  }
}
