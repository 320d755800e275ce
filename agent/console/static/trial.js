// A protocol before it asks: the threshold sweep of its backtests, and what it noted in shadow mode.
import { h } from "/static/dom.js";
import { clock, minutes, number, t } from "/static/words.js";

const WIDTH = 440, HEIGHT = 180, PAD = 32;
const RATES = ["sensitivity", "specificity"];

export function sweeps(found) {
  if (!found.length) return [h("p", { class: "soft" }, t("no_sweep"))];
  return found.map(sweep);
}

// A slider over the upper threshold; nothing is computed here that the backtest did not compute.
function sweep({ report, revision, exams, operating, points }) {
  const tiles = h("div", { class: "tiles" });
  const mark = svg("line", { y1: PAD, y2: HEIGHT - PAD, class: "mark" });
  const x = (up) => PAD + (up - points[0].up) / (points.at(-1).up - points[0].up || 1) * (WIDTH - 2 * PAD);
  const y = (rate) => HEIGHT - PAD - rate * (HEIGHT - 2 * PAD);
  const curve = (name) => svg("polyline", { class: name, points: points.filter((p) => p[name].value !== null).map((p) => `${x(p.up)},${y(p[name].value)}`).join(" ") });
  const text = (content, at) => { const element = svg("text", at); element.textContent = content; return element; };
  const inForce = operating.filter((up) => up >= points[0].up && up <= points.at(-1).up)
    .map((up) => svg("line", { x1: x(up), x2: x(up), y1: PAD, y2: HEIGHT - PAD, class: "in-force" }));
  const chart = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" }, [
    svg("path", { d: `M${PAD},${PAD}V${HEIGHT - PAD}H${WIDTH - PAD}`, class: "axis" }),
    text("1", { x: PAD - 16, y: PAD + 5 }), text("0", { x: PAD - 16, y: HEIGHT - PAD + 5 }),
    text(points[0].up.toFixed(2), { x: PAD, y: HEIGHT - 10 }), text(points.at(-1).up.toFixed(2), { x: WIDTH - PAD - 16, y: HEIGHT - 10 }),
    ...RATES.map(curve), ...inForce, mark,
  ]);
  const nearest = points.map((p) => Math.abs(p.up - (operating[0] ?? 0.5)));
  const slider = h("input", { type: "range", min: 0, max: points.length - 1, step: 1, "aria-label": t("threshold"), class: "threshold" });
  slider.value = nearest.indexOf(Math.min(...nearest));
  const show = () => {
    const point = points[slider.value];
    mark.setAttribute("x1", x(point.up));
    mark.setAttribute("x2", x(point.up));
    tiles.replaceChildren(
      tile(t("threshold"), point.up.toFixed(2), operating.length ? t("in_force", { up: operating.map((up) => up.toFixed(2)).join(", ") }) : ""),
      ...RATES.map((name) => tile(t(name), percent(point[name].value), interval(point[name]), name)),
      tile(t("asks"), number(point.asks_per_100), t("per_100")),
      tile(t("added"), minutes(point.minutes_per_exam), t("per_exam")),
    );
  };
  slider.addEventListener("input", show);
  show();
  return h("div", { class: "sweep", "data-report": report },
    h("h3", {}, `${report} · ${t("revision", { r: revision })} · ${t("exams", { n: exams })}`), slider, tiles, chart);
}

const percent = (value) => (value === null ? "–" : `${number(100 * value)} %`);
const interval = ({ low, high }) => (low === null ? "" : `95 %: ${number(100 * low)}–${number(100 * high)}`);

function tile(name, value, note, look = "") {
  return h("div", { class: `tile ${look}` }, h("span", {}, name), h("b", {}, value), h("small", {}, note));
}

function svg(tag, attributes, children = []) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function shadow({ triggers, questions }) {
  if (!triggers.length && !questions.length) return [h("p", { class: "soft" }, t("no_shadow"))];
  return [
    ...triggers.map((trigger) => h("div", { class: "version" },
      h("b", {}, trigger.name),
      h("small", {}, `${t("held", { n: trigger.held, of: trigger.of })} · ${trigger.standing === "asks" ? t("asks_now") : trigger.standing}`))),
    h("h3", {}, t("would_have")),
    ...(questions.length ? [] : [h("p", { class: "soft" }, t("none"))]),
    ...questions.map((question) => h("div", { class: "version" },
      h("b", {}, question.text),
      h("small", {}, `${new Date(1000 * question.at_s).toLocaleDateString()} ${clock(question.at_s)} · ${question.exam.slice(0, 13)} · ${question.trigger} · ${minutes(question.minutes)}`))),
  ];
}
