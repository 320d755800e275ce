// The two columns: steps on the left, what was noticed on the right.
import { h } from "/static/dom.js";
import * as overlays from "/static/overlays.js";
import { draw } from "/static/raster.js";
import { minutes, number, t, typeOf, whereOf } from "/static/words.js";

export function timeline(state) {
  const steps = state.steps;
  if (!state.plan && !steps.length) return [h("h2", {}, t("no_exam"))];
  const left = steps.filter((s) => s.state === "waiting").reduce((sum, s) => sum + s.minutes, 0)
    + steps.filter((s) => s.state === "running").reduce((sum, s) => sum + s.minutes * (1 - (s.done ?? 0)), 0);
  const done = steps.every((s) => s.state === "done" || s.state === "failed");
  return [
    h("h2", {}, t("steps"), h("span", {}, done ? t("all_done") : t("left", { m: number(left) }))),
    ...steps.map(row),
  ];
}

function row(step, i) {
  const signs = { done: "✓", failed: "!", running: "▸", waiting: String(i + 1) };
  const name = h("div", { class: "name" }, step.title || step.name, step.asked ? h("span", { class: "tag" }, t("extra")) : "");
  const bar = h("i");
  bar.style.width = `${100 * (step.done ?? 0)}%`;
  const right = step.state === "running" && step.done !== null ? `${Math.round(100 * step.done)} %` : step.minutes ? minutes(step.minutes) : "";
  const quality = step.quality && !step.quality.usable;
  return h("div", { class: `step ${step.state}${step.asked ? " asked" : ""}`, "data-step": step.name },
    h("div", { class: "dot" }, signs[step.state]), name, h("div", { class: "minutes" }, right),
    step.state === "running" ? h("div", { class: "bar" }, bar) : "",
    step.state === "failed" ? h("div", { class: "note bad" }, t("failed")) : "",
    step.cut ? h("div", { class: "note bad" }, t("cut")) : "",
    quality ? h("div", { class: "note bad" }, t("unusable", { why: step.quality.reason })) : "",
  );
}

export function findingsPanel(state, pictures, open) {
  const said = state.findings;
  const head = h("h2", {}, t("findings"), said ? h("span", {}, t("after_series", { n: said.series.length })) : "");
  if (!said) return [head, h("div", { class: "note-card" }, t("no_findings"))];
  const notes = [
    said.abstained ? t("abstained", { why: said.abstained }) : "",
    said.levels_certain ? "" : t("levels"),
    said.agreement === false ? t("disagree") : "",
  ].filter(Boolean).map((text) => h("div", { class: "note-card warn" }, text));
  const cards = said.findings.map((finding, i) => card(finding, i, pictures, open));
  if (!cards.length && !said.abstained) cards.push(h("div", { class: "note-card" }, t("nothing")));
  return [head, ...notes, ...cards, h("p", { class: "never" }, t("never"))];
}

function card(finding, i, pictures, open) {
  const canvas = h("canvas", { width: 300, height: 300 });
  const stack = finding.series.map((name) => pictures.series.get(name)).find(Boolean);
  if (stack) key(canvas, stack, finding);
  const bar = h("i");
  bar.style.width = `${100 * finding.probability}%`;
  const [first, ...others] = finding.series.map((name) => pictures.series.get(name)?.title ?? name);
  const series = others.length ? `${first} +${others.length}` : first;
  return h("button", { class: "finding", onclick: () => open(finding, stack) },
    canvas,
    h("div", {},
      h("h3", {}, h("span", { class: "number" }, String(i + 1)), typeOf(finding)),
      h("div", { class: "where" }, whereOf(finding)),
      h("div", { class: "facts" }, t("seen", { series, n: finding.slices.length, ml: number(finding.volume_ml) }))),
    h("div", { class: "likely" },
      h("span", {}, t("likely"), h("b", {}, `${Math.round(100 * finding.probability)} %`)),
      h("span", { class: "bar" }, bar)));
}

function key(canvas, stack, finding) {
  const plane = stack.planes[stack.nearest(finding.centre_mm)];
  if (!plane) return;
  const context = canvas.getContext("2d");
  const mm = Math.max(70, 3 * Math.max(...finding.extent_mm));
  const box = { x: 0, y: 0, width: canvas.width, height: canvas.height };
  const at = draw(context, plane, plane.picture.window, box, { centre: finding.centre_mm, mm });
  overlays.findings(context, at, [finding], 2, false);
}
