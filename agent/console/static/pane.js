// One image area: scroll by wheel, window by dragging, a click sets the point that planes share.
import { h } from "/static/dom.js";
import { lettersOf, opposite, pointOf, upright } from "/static/geometry.js";
import * as overlays from "/static/overlays.js";
import { draw } from "/static/raster.js";
import { letter, t } from "/static/words.js";

const CLICK_PX = 5;

export class Pane {
  // view: what all panes share: {overlays, labels, findings, slabs, point}.
  // on: {active(pane), point(pane, point)}.
  constructor(view, on) {
    this.view = view;
    this.on = on;
    this.stack = null;
    this.index = 0;
    this.canvas = h("canvas", { tabIndex: 0 });
    this.corners = Object.fromEntries(["tl", "tr", "bl", "br"].map((place) => [place, h("div", { class: `corner ${place}` })]));
    this.edges = Object.fromEntries(["left", "right", "top", "bottom"].map((place) => [place, h("div", { class: `edge ${place}` })]));
    this.knob = h("i");
    this.slider = h("div", { class: "slider" }, this.knob);
    this.empty = h("div", { class: "empty" }, t("no_image"));
    this.mark = h("div", { class: "synthetic-mark", hidden: true }, t("synthetic_why"));
    this.element = h("div", { class: "pane" }, this.canvas, Object.values(this.corners), Object.values(this.edges), this.slider, this.mark, this.empty);
    this.element.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.element.addEventListener("pointerdown", (event) => this.press(event));
    new ResizeObserver(() => this.redraw()).observe(this.element);
  }

  show(stack, index = Math.floor((stack?.planes.length ?? 0) / 2)) {
    this.stack = stack;
    this.index = index;
    this.redraw();
  }

  get plane() { return this.stack?.planes[this.index]; }

  move(by) {
    if (!this.stack) return;
    const last = this.stack.planes.length - 1, next = Math.max(0, Math.min(last, this.index + by));
    if (next !== this.index) { this.index = next; this.redraw(); }
  }

  to(point) {
    if (!this.stack) return;
    this.index = this.stack.nearest(point);
    this.redraw();
  }

  wheel(event) {
    event.preventDefault();
    this.on.active(this);
    this.turned = (this.turned ?? 0) + event.deltaY;
    const step = event.deltaMode === 0 ? 50 : 1, whole = Math.trunc(this.turned / step);
    if (whole) { this.turned -= whole * step; this.move(whole); }
  }

  press(event) {
    this.on.active(this);
    if (!this.stack || event.button > 0) return;
    this.element.setPointerCapture(event.pointerId);
    const from = [event.clientX, event.clientY], window = [...this.stack.window];
    const speed = Math.max(window[1], 1e-6) / 320;
    let dragged = false;
    const drag = (move) => {
      const dx = move.clientX - from[0], dy = move.clientY - from[1];
      dragged ||= Math.hypot(dx, dy) > CLICK_PX;
      if (!dragged) return;
      this.stack.window = [window[0] + dy * speed, Math.max(window[1] * 0.02, window[1] + dx * speed)];
      this.redraw();
    };
    const end = (up) => {
      this.element.removeEventListener("pointermove", drag);
      this.element.removeEventListener("pointerup", end);
      this.element.removeEventListener("pointercancel", end);
      if (!dragged && up.type === "pointerup") this.on.point(this, this.pointAt(up.clientX, up.clientY));
    };
    this.element.addEventListener("pointermove", drag);
    this.element.addEventListener("pointerup", end);
    this.element.addEventListener("pointercancel", end);
  }

  // Patient coordinates under a position of the page, LPS mm.
  pointAt(clientX, clientY) {
    const place = this.canvas.getBoundingClientRect(), ratio = this.canvas.width / place.width;
    const [x, y] = this.at.toIndex((clientX - place.left) * ratio, (clientY - place.top) * ratio);
    return pointOf(this.plane.picture, x, y, this.plane.z);
  }

  redraw() {
    if (this.waits) return;
    this.waits = requestAnimationFrame(() => { this.waits = null; this.paint(); });
  }

  paint() {
    const plane = this.plane, ratio = devicePixelRatio;
    this.empty.hidden = Boolean(plane);
    const width = Math.round(this.element.clientWidth * ratio), height = Math.round(this.element.clientHeight * ratio);
    if (this.canvas.width !== width || this.canvas.height !== height) { this.canvas.width = width; this.canvas.height = height; }
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    for (const corner of Object.values(this.corners)) corner.hidden = !plane;
    for (const edge of Object.values(this.edges)) edge.hidden = !plane;
    this.slider.hidden = !plane;
    const synthetic = this.stack?.role === "synthetic";
    this.element.classList.toggle("synthetic", synthetic);
    this.mark.hidden = !synthetic;
    if (!plane) return;
    this.at = draw(context, plane, this.stack.window, { x: 0, y: 0, width, height });
    const view = this.view;
    if (view.overlays) {
      overlays.labels(context, this.at, view.labels, ratio);
      for (const box of view.slabs) overlays.slab(context, this.at, box, ratio);
      overlays.findings(context, this.at, view.findings, ratio);
      if (view.point) overlays.cross(context, this.at, view.point, ratio);
    }
    this.write(plane);
    this.frames = (this.frames ?? 0) + 1;
  }

  write(plane) {
    const { picture } = plane, stack = this.stack, [centre, width] = stack.window;
    const lines = [picture.complete ? "" : h("span", { class: "warn" }, t("incomplete"))];
    if (stack.role === "derived") lines.push(h("span", {}, t("derived")));
    if (picture.fallback.length) lines.push(h("span", { class: "warn" }, t("fallback_why", { why: picture.fallback[0].replace(/^fallback: /, "") })));
    else if (picture.networks.length) lines.push(h("span", {}, picture.networks.join(", ")));
    if (picture.missing) lines.push(h("span", { class: "warn" }, t("no_pixels")));
    this.corners.tl.replaceChildren(stack.title);
    this.corners.tr.replaceChildren(...lines.filter(Boolean).flatMap((line) => [line, document.createElement("br")]));
    this.corners.bl.replaceChildren(t("slice", { i: this.index + 1, n: stack.planes.length }));
    const digits = width < 20 ? 1 : 0;
    this.corners.br.replaceChildren(t("window", { w: width.toFixed(digits), c: centre.toFixed(digits) }));
    const { toRight, toDown } = upright(picture), right = lettersOf(toRight), bottom = lettersOf(toDown);
    this.edges.right.textContent = letter(right);
    this.edges.left.textContent = letter(opposite[right]);
    this.edges.bottom.textContent = letter(bottom);
    this.edges.top.textContent = letter(opposite[bottom]);
    this.knob.style.top = `${100 * (stack.planes.length > 1 ? this.index / (stack.planes.length - 1) : 0.5)}%`;
  }
}
