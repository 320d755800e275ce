// Requests after the scan: what to make of a measured series, and what has become of it.
import { ask, h } from "/static/dom.js";
import { clock, number, t } from "/static/words.js";

const LOOK_MS = 300;
const PRESETS = { T1w: [600, 10, 0], T2w: [4000, 100, 0], PDw: [8000, 15, 0], STIR: [4500, 50, 260] };
const TIMES = [["TR", 200, 10000, 50], ["TE", 5, 200, 1], ["TI", 0, 3000, 10]];
const CHAINS = ["conventional", "dl", "denoise", "grappa"];
const KINDS = ["contrast", "field_of_view", "chain", "enhancement"];

export class More {
  // on: {stack() returns the series to ask of, hold() keeps it, known(measurement), shown(prefix) tries to show a result}.
  constructor(element, button, on) {
    Object.assign(this, { element, button, on, kind: "contrast", chain: CHAINS[0], wanted: null, of: null });
    this.list = h("div", { class: "asked" });
    this.said = h("p", { class: "said", role: "status" });
    this.fields = TIMES.map(([name, least, most, step], i) => this.field(name, least, most, step, PRESETS.T1w[i]));
    this.send = h("button", { class: "primary send", onclick: () => this.post() }, t("compute"));
    button.addEventListener("click", () => this.open(this.element.hidden));
  }

  open(on) {
    this.element.hidden = !on;
    this.button.setAttribute("aria-pressed", String(on));
    document.querySelector("main").classList.toggle("more", on);
    this.said.textContent = "";
    if (on) { this.on.hold(); this.build(); this.look(); }
  }

  // Another series is shown: that is the one to ask of.
  refresh() {
    if (!this.element.hidden && this.on.stack() !== this.of) this.build();
    if (this.wanted && this.on.shown(this.wanted)) this.wanted = null;
  }

  build() {
    this.of = this.on.stack();
    this.measurement = this.of?.planes[0].picture.measurement;
    const kinds = KINDS.map((kind) => h("button", { "data-kind": kind, "aria-pressed": String(kind === this.kind), onclick: () => { this.kind = kind; this.build(); } }, t(`ask_${kind}`)));
    this.send.disabled = !this.measurement;
    this.element.replaceChildren(
      h("div", { class: "head" }, h("h2", {}, t("more")), h("button", { class: "quiet", "aria-label": t("close"), onclick: () => this.open(false) }, "✕")),
      h("p", { class: "of" }, this.measurement ? this.of.title : t("choose_series")),
      h("div", { class: "kinds" }, kinds),
      ...this.details(),
      this.send, this.said, this.list,
    );
  }

  details() {
    if (this.kind === "contrast") {
      const presets = Object.entries(PRESETS).map(([name, times]) => h("button", { onclick: () => times.forEach((ms, i) => this.fields[i].set(ms)) }, name));
      return [h("div", { class: "row" }, presets), ...this.fields.map((field) => field.element), h("p", { class: "soft" }, t("contrast_needs"))];
    }
    if (this.kind === "chain") {
      return [h("div", { class: "row two" }, CHAINS.map((name) => h("button", { "aria-pressed": String(name === this.chain), onclick: () => { this.chain = name; this.build(); } }, t(`chain_${name}`))))];
    }
    return [h("p", { class: "soft" }, t(`${this.kind}_needs`))];
  }

  field(name, least, most, step, ms) {
    const value = h("output"), input = h("input", { type: "range", min: least, max: most, step, "aria-label": `${name} ms` });
    const write = () => { value.textContent = name === "TI" && !Number(input.value) ? t("no_inversion") : `${input.value} ms`; };
    const set = (to) => { input.value = to; write(); };
    input.addEventListener("input", write);
    const turn = (by) => set(Number(input.value) + by * step);
    set(ms);
    return { set, get: () => Number(input.value), element: h("div", { class: "time" },
      h("b", {}, name), h("button", { "aria-label": `${name} −`, onclick: () => turn(-1) }, "−"), input,
      h("button", { "aria-label": `${name} +`, onclick: () => turn(1) }, "+"), value) };
  }

  asked() {
    if (this.kind === "chain") return { kind: "chain", chain: this.chain };
    if (this.kind !== "contrast") return { kind: this.kind };
    const [tr, te, ti] = this.fields.map((field) => field.get());
    return { kind: "contrast", tr_ms: tr, te_ms: te, ti_ms: ti || null };
  }

  async post() {
    this.send.disabled = true;
    try {
      const standing = await ask("/api/request", { measurement: this.measurement, wanted: this.asked() });
      this.mine = standing.id;
      this.say("", t("asked_for"));
      await this.look();
    } catch (error) {
      this.say("bad", t("not_sent", { why: error.message }));
    }
    this.send.disabled = !this.measurement;
  }

  say(look, text) {
    this.said.className = `said ${look}`;
    this.said.textContent = text;
  }

  // Looks until nothing is open any more.
  async look() {
    clearTimeout(this.due);
    const { requests } = await ask("/api/requests").catch(() => ({ requests: null }));
    if (requests) this.show(requests.filter((request) => this.on.known(request.measurement)));
    if (!requests || requests.some((request) => ["waiting", "running"].includes(request.state))) this.due = setTimeout(() => this.look(), LOOK_MS);
  }

  show(requests) {
    const mine = requests.find((request) => request.id === this.mine && !["waiting", "running"].includes(request.state));
    if (mine) {
      this.mine = null;
      if (mine.state === "done") { this.wanted = mine.series; this.refresh(); }
      this.say(mine.state === "done" ? "good" : "bad", this.words(mine));
    }
    this.list.replaceChildren(...(requests.length ? [h("h3", {}, t("asked_so_far"))] : []), ...requests.reverse().slice(0, 12).map((request) => h("div", { class: `request ${request.state}`, "data-request": request.id },
      h("b", {}, this.name(request.wanted)), h("span", {}, `${clock(request.at_s)} · ${this.words(request)}`),
      request.state === "done" ? h("button", { onclick: () => this.on.shown(request.series) }, t("show")) : "")));
  }

  name(wanted) {
    if (wanted.kind === "contrast") return `TR ${wanted.tr_ms} · TE ${wanted.te_ms}${wanted.ti_ms ? ` · TI ${wanted.ti_ms}` : ""}`;
    return wanted.kind === "chain" ? wanted.chain : t(`ask_${wanted.kind}`);
  }

  words(request) {
    const done = t("request_done", { n: request.images, s: number(request.seconds) });
    if (request.state === "done") return request.reason ? `${done} ${request.reason}` : done;
    return request.reason ? `${t(`request_${request.state}`)}: ${request.reason}` : t(`request_${request.state}`);
  }
}
