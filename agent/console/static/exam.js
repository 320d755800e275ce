// The technologist's page: puts events, images, panels and the question together.
import { $, h } from "/static/dom.js";
import { ExamState } from "/static/exam_state.js";
import { dot } from "/static/geometry.js";
import { Live } from "/static/live.js";
import { More } from "/static/more.js";
import { Pane } from "/static/pane.js";
import { findingsPanel, timeline } from "/static/panels.js";
import { Pictures } from "/static/pictures.js";
import { Question } from "/static/question.js";
import { draw } from "/static/raster.js";
import { top } from "/static/top.js";
import { t } from "/static/words.js";

const ANSWER_MS = 8000, BACK_MS = 4000;

const bar = await top("/");
const state = new ExamState();
const view = { overlays: true, labels: [], findings: [], slabs: [], point: null };
const pictures = new Pictures(arrived);
const on = { active: activate, point: link };
const panes = [new Pane(view, on), new Pane(view, on)];
let active = panes[0], two = false, followed = true, line = {}, banner = null;

const buttons = {
  overlays: h("button", { "aria-pressed": "true", onclick: () => toggle("overlays") }, t("overlays")),
  planes: h("button", { "aria-pressed": "false", onclick: () => split(!two) }, t("planes")),
  reset: h("button", { onclick: resetWindow }, t("reset")),
  more: h("button", { id: "ask-more", "aria-pressed": "false", hidden: !bar.me.requests }, t("more")),
};
$("#panes").append(panes[0].element);
$("#tools").append(...Object.values(buttons), h("div", { class: "space" }), h("div", { class: "hint" }, t("mouse")));

const live = new Live({
  begin() { state.begin(); restart(); refresh(); },
  event(event) {
    if (state.take(event)) restart();
    if (event.kind === "picture" && event.exam === state.exam) pictures.add(event);
    if (event.kind === "answer") announce(event);
    refresh();
  },
  line(now) {
    line = now;
    if (now.back) flash("good", t("back"), BACK_MS);
    refresh();
  },
});
const question = new Question($("#question"), live, bar.me);
const more = new More($("#more"), buttons.more, { stack: () => active.stack, hold: () => activate(active), known: (name) => state.measurements.has(name), shown: showResult });

function restart() {
  pictures.clear();
  Object.assign(view, { labels: pictures.labels, point: null });
  followed = true;
  for (const pane of panes) pane.show(null);
}

// Panels are rebuilt at most once a frame, however many events have come.
let due = null;
function refresh() {
  due ??= requestAnimationFrame(() => {
    due = null;
    Object.assign(view, { findings: state.findings?.findings ?? [], slabs: state.slabs, labels: pictures.labels });
    $("#timeline").replaceChildren(...timeline(state));
    panel();
    $("main").classList.toggle("asking", Boolean(state.open));
    question.show(state, pictures);
    more.refresh();
    heading();
    strip();
    for (const pane of panes) pane.redraw();
  });
}

// Built anew only when something of it has changed: a finger may be on one of its buttons.
let shown = "";
function panel() {
  const series = [...pictures.series.values()].map((s) => `${s.name} ${s.planes.length} ${s.planes.filter((p) => p.picture.pixels).length}`);
  const now = JSON.stringify([state.findings, state.findings?.findings.length ? series : []]);
  if (now !== shown) $("#findings").replaceChildren(...findingsPanel(state, pictures, openFinding));
  shown = now;
}

function heading() {
  const plan = state.plan;
  bar.title.replaceChildren(plan ? plan.title : t("no_exam"), plan ? h("small", {}, state.exam.slice(0, 13)) : "");
  const badges = [];
  if (plan?.simulated) badges.push(h("span", { class: "badge warn" }, t("simulated")));
  const { engine } = state;
  if (engine) {
    const look = { network: "good", fallback: "warn", off: "" }[engine.state];
    const name = { network: engine.engine || t("network"), fallback: t("fallback"), off: t("engine_off") }[engine.state];
    badges.push(h("span", { class: `badge ${look}`, title: engine.reason, id: "engine" }, name));
  }
  bar.badges.replaceChildren(...badges);
  const banners = [];
  if (line.console === false) banners.push(h("div", { class: "banner", id: "lost" }, t("lost")));
  else if (line.agent === false) banners.push(h("div", { class: "banner", id: "agent-gone" }, t("agent_gone")));
  for (const peer of state.peers.values()) {
    if (peer.state === "lost" && peer.role === "scanner") banners.push(h("div", { class: "banner" }, t("scanner_lost", { peer: peer.peer })));
  }
  if (state.dropped) banners.push(h("div", { class: "banner warn" }, t("dropped", { n: state.dropped })));
  if (banner) banners.push(banner);
  $("#banners").replaceChildren(...banners);
}

function flash(look, text, ms) {
  banner = h("div", { class: `banner ${look}`, id: "flash" }, text);
  setTimeout(() => { banner = null; refresh(); }, ms);
}

function announce(answer) {
  if (live.now() - answer.at_s > ANSWER_MS / 1000) return;
  const key = { failed: "not_done" }[answer.outcome] ?? answer.outcome;
  const good = ["accepted", "scheduled", "modified", "done"].includes(answer.outcome);
  flash(good ? "good" : "warn", t(key, { by: answer.by ? t("by", { who: answer.by }) : "" }), ANSWER_MS);
}

// Pixels of a series have come: the page follows the latest one until somebody chooses another;
// what was not acquired never shows itself.
function arrived(name) {
  const stack = pictures.series.get(name);
  if (stack?.role === "acquired" && (followed || !active.stack)) {
    if (active.stack !== stack) active.show(stack);
    else if (!active.touched) active.show(stack);
  }
  if (two && !panes[1].stack) second();
  refresh();
}

function activate(pane) {
  pane.touched = true;
  followed = false;
  active = pane;
  for (const each of panes) each.element.classList.toggle("active", two && each === active);
}

function choose(stack) {
  followed = false;
  const point = view.point;
  active.touched = true;
  active.show(stack);
  if (point) active.to(point);
  refresh();
}

// The result of a request, once its pixels are here.
function showResult(prefix) {
  const stack = [...pictures.series.values()].find((s) => s.name.startsWith(prefix) && s.planes.some((p) => p.picture.pixels));
  if (stack) choose(stack);
  return Boolean(stack);
}

// A click marks a point of the patient; the other plane goes there.
function link(pane, point) {
  view.point = two ? point : null;
  for (const other of panes) if (two && other !== pane) other.to(point);
  refresh();
}

function split(on) {
  two = on;
  buttons.planes.setAttribute("aria-pressed", String(on));
  if (on) { $("#panes").append(panes[1].element); second(); } else { panes[1].element.remove(); active = panes[0]; view.point = null; }
  activate(panes[0]);
  refresh();
}

// The other pane shows the latest series of another plane.
function second() {
  const normal = panes[0].plane?.normal;
  const others = [...pictures.series.values()].filter((stack) => stack !== panes[0].stack);
  const across = others.filter((stack) => normal && Math.abs(dot(stack.planes[0].normal, normal)) < 0.7);
  const stack = across.at(-1) ?? others.at(-1);
  if (stack) panes[1].show(stack);
}

function openFinding(finding, stack) {
  if (!stack) return;
  choose(stack);
  active.to(finding.centre_mm);
  if (two) { view.point = finding.centre_mm; panes.find((pane) => pane !== active).to(finding.centre_mm); }
}

function toggle(name) {
  view[name] = !view[name];
  buttons[name].setAttribute("aria-pressed", String(view[name]));
  refresh();
}

function resetWindow() {
  if (!active.stack) return;
  active.stack.window = [...active.stack.planes[0].picture.window];
  refresh();
}

function strip() {
  const there = new Map([...$("#strip").children].map((tile) => [tile.dataset.series, tile]));
  const tiles = [...pictures.series.values()].map((stack) => tile(stack, there.get(stack.name)));
  if (tiles.length !== there.size || tiles.some((t, i) => t !== $("#strip").children[i])) $("#strip").replaceChildren(...tiles);
}

function tile(stack, there) {
  const made = there ?? h("button", { class: "tile", "data-series": stack.name, onclick: () => choose(pictures.series.get(stack.name)) },
    h("canvas", { width: 316, height: 316 }), h("div", { class: "mark", hidden: true }), h("div", { class: "caption" }));
  const [canvas, mark, caption] = made.children;
  const plane = stack.planes[Math.floor(stack.planes.length / 2)];
  const drawn = `${plane.picture.number} ${Boolean(plane.picture.pixels)} ${stack.planes.length}`;
  made.setAttribute("aria-pressed", String(panes.some((pane) => pane.stack === stack && (two || pane === panes[0]))));
  if (made.dataset.drawn === drawn) return made;
  made.dataset.drawn = drawn;
  draw(canvas.getContext("2d"), plane, plane.picture.window, { x: 0, y: 0, width: 316, height: 316 });
  caption.replaceChildren(stack.title, h("small", {}, t("images", { n: stack.planes.length })));
  const synthetic = stack.role === "synthetic";
  mark.hidden = !synthetic && !stack.fallback.length;
  mark.classList.toggle("fallback", !synthetic);
  mark.textContent = synthetic ? t("synthetic") : t("fallback");
  return made;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const moves = { ArrowUp: -1, ArrowDown: 1, PageUp: -5, PageDown: 5 };
  if (event.key in moves) {
    event.preventDefault();
    activate(active);
    active.move(moves[event.key]);
  } else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
    const stacks = [...pictures.series.values()], at = stacks.indexOf(active.stack);
    const next = stacks[at + (event.key === "ArrowRight" ? 1 : -1)];
    if (next) choose(next);
  } else if (event.key === "o") toggle("overlays");
  else if (event.key === "2") split(!two);
  else if (event.key === "r") resetWindow();
});

// For tests and measurements.
window.boreside = { live, panes, pictures, state };
