// The integrator's page: who is connected, how fast it goes, and what the agent has to say.
import { $, ask, h } from "/static/dom.js";
import { top } from "/static/top.js";
import { clock, number, t } from "/static/words.js";

const EVERY_MS = 1000;
const bar = await top("/connections");
bar.title.textContent = t("connections");

const bytes = (n) => (n >= 1e9 ? `${number(n / 1e9)} GB` : n >= 1e6 ? `${number(n / 1e6)} MB` : `${n} B`);

async function look() {
  try {
    const now = await ask("/api/figures");
    $("#banners").replaceChildren();
    draw(now);
  } catch {
    $("#banners").replaceChildren(h("div", { class: "banner", id: "lost" }, t("lost")));
  }
  setTimeout(look, EVERY_MS);
}

function draw(now) {
  const alive = now.now_s - now.agent_s < 5, open = now.connections.filter((peer) => peer.state === "open").length;
  const { latency, spool } = now;
  const log = $("#log"), stays = log && log.scrollTop < -4;
  if (stays || getSelection().toString()) return;
  $("#page").replaceChildren(
    figure(t("agent"), t(alive ? "alive" : "stopped"), "", alive ? "good" : "bad"),
    figure(t("connections"), open, ""),
    figure(t("latency"), latency.images ? `${Math.round(latency.p50)} ms` : t("none"), latency.images ? t("median") : ""),
    room(spool),
    h("section", { class: "card full" }, h("h2", {}, t("connections")), peers(now.connections)),
    h("section", { class: "card wide" }, h("h2", {}, t("latency")), ...percentiles(latency)),
    h("section", { class: "card wide" }, h("h2", {}, t("measurements")), measurements(now.measurements)),
    h("section", { class: "card full" }, h("h2", {}, t("log")), lines(now.log)),
  );
  chart(latency.points);
}

const figure = (title, value, note, look = "") => h("section", { class: `card figure ${look}` }, h("h2", {}, title), h("b", {}, String(value)), h("small", {}, note));

function room(spool) {
  if (!spool) return figure(t("spool"), t("none"), "");
  const fill = h("i");
  fill.style.width = `${Math.min(100, (100 * spool.used_bytes) / spool.max_bytes)}%`;
  return h("section", { class: "card figure" }, h("h2", {}, t("spool")), h("b", {}, bytes(spool.used_bytes)), h("div", { class: "bar" }, fill),
    h("small", {}, `${bytes(spool.max_bytes)} · ${t("unfinished", { n: spool.unfinished })}`));
}

function peers(connections) {
  const state = { open: t("open"), closed: t("closed"), lost: t("lost_state") };
  return h("table", {}, h("thead", {}, h("tr", {}, ["peer", "role", "state", "since"].map((word) => h("th", {}, t(word))))),
    h("tbody", {}, connections.map((peer) => h("tr", {}, h("td", {}, peer.peer, peer.detail ? h("small", { class: "soft" }, ` ${peer.detail}`) : ""), h("td", {}, peer.role),
      h("td", { class: `state-${peer.state}` }, state[peer.state]), h("td", {}, clock(peer.since_s))))));
}

function percentiles(latency) {
  if (!latency.images) return [h("p", { class: "soft" }, t("none"))];
  const one = (name, value) => h("div", {}, h("b", {}, `${Math.round(value)} ms`), h("span", { class: "soft" }, name));
  return [h("div", { class: "percentiles" }, one(t("median"), latency.p50), one("95 %", latency.p95), one("99 %", latency.p99), one(t("most"), latency.max)),
    h("canvas", { id: "chart", width: 1400, height: 380 })];
}

function chart(points) {
  const canvas = $("#chart");
  if (!canvas || !points.length) return;
  const context = canvas.getContext("2d"), { width, height } = canvas;
  const largest = Math.max(...points.map(([, ms]) => ms)), step = 10 ** Math.floor(Math.log10(largest)), top = Math.ceil(largest / step) * step;
  context.font = "26px Inter, system-ui, sans-serif";
  context.fillStyle = "#b4c0cc";
  context.strokeStyle = "#323c48";
  for (const ms of [0, top / 2, top]) {
    const y = height - 20 - (height - 60) * (ms / top);
    context.beginPath(); context.moveTo(110, y); context.lineTo(width, y); context.stroke();
    context.fillText(`${ms} ms`, 0, y + 8);
  }
  context.fillStyle = "#5ccfd0";
  points.forEach(([, ms], i) => {
    const x = 120 + ((width - 140) * i) / Math.max(1, points.length - 1), y = height - 20 - (height - 60) * (ms / top);
    context.beginPath(); context.arc(x, y, 6, 0, 7); context.fill();
  });
}

function measurements(list) {
  const outcome = { delivered: t("delivered"), failed: t("outcome_failed"), cut: t("outcome_cut"), running: t("outcome_running") };
  return h("table", {}, h("thead", {}, h("tr", {}, h("th", {}, t("measurement")), h("th", {}, t("outcome")), h("th", { class: "right" }, t("received")), h("th", { class: "right" }, t("rate")))),
    h("tbody", {}, list.slice(0, 8).map((each) => h("tr", {}, h("td", {}, each.step), h("td", { class: `outcome-${each.outcome}` }, outcome[each.outcome], each.errors.length ? `: ${each.errors[0]}` : ""),
      h("td", { class: "right" }, each.bytes === null ? "" : bytes(each.bytes)), h("td", { class: "right" }, each.seconds ? `${bytes(each.bytes / each.seconds)}/s` : "")))));
}

const lines = (log) => h("div", { id: "log" }, [...log].reverse().map((line) => h("div", { class: line.level }, h("span", {}, clock(line.at_s)), h("span", {}, line.level), h("span", {}, line.text))));

look();
