// The protocol engineer's page: protocols with their checks, one of them under the hands.
import { $, ask, h } from "/static/dom.js";
import { Editor } from "/static/editor.js";
import { top } from "/static/top.js";
import { shadow, sweeps } from "/static/trial.js";
import { clock, minutes, number, t } from "/static/words.js";

const CHECK_MS = 250;

const bar = await top("/protocols");
bar.title.textContent = t("protocols");
const editor = new Editor(edited);
const list = h("nav", { class: "list" });
const heading = h("h2"), verdict = h("div", { class: "verdict", id: "verdict" });
const beside = h("section", { class: "beside" });
$("#page").append(list, h("section", { class: "desk" }, h("div", { class: "bar" }, heading, h("div", { class: "space" }), verdict), editor.element), beside);

let name = null, saved = "", versions = [], trial = { sweeps: [], shadow: { triggers: [], questions: [] } }, checked = null, tab = "says", due = null, asked = 0;
const pages = h("div", { id: "tab" });
const tabs = h("div", { class: "tabs", role: "tablist" });
const reason = h("input", { id: "reason", maxLength: 500 });
const said = h("p", { class: "said", role: "status" });
const publish = h("button", { class: "primary", id: "publish", onclick: send, disabled: true }, t("publish"));
reason.addEventListener("input", ready);
beside.append(tabs, pages, h("div", { class: "publish" }, h("label", {}, t("reason"), reason), publish, said));
addEventListener("beforeunload", (event) => { if (name && editor.value !== saved) event.preventDefault(); });

await listAll();

async function listAll() {
  const { protocols, reports } = await ask("/api/protocols");
  list.replaceChildren(
    h("h2", {}, t("protocols")), ...protocols.map(entry),
    h("h2", {}, t("reports")),
    ...(reports.length ? reports.map((report) => h("a", { href: `/reports/${encodeURIComponent(report)}`, target: "_blank" }, report)) : [h("p", { class: "soft" }, t("no_reports"))]),
  );
  if (!name && protocols.length) open(protocols[0].name);
}

function entry(line) {
  const from = line.overrides ? t("overrides") : t(line.shipped ? "shipped" : "own");
  const check = line.problems.length
    ? h("small", { class: "bad" }, count(line.problems.length))
    : h("small", {}, `${t("revision", { r: line.revision })} · ${t("planned_of", { m: number(line.minutes), s: line.slot_minutes })}`);
  return h("button", { class: "entry", "data-name": line.name, "aria-current": String(line.name === name), onclick: () => open(line.name) },
    h("b", {}, line.title ?? line.name), h("small", {}, `${line.name} · ${from}`), check);
}

const count = (n) => (n === 1 ? t("problem_1") : t("problems", { n }));

async function open(which, revision) {
  if (name && editor.value !== saved && !confirm(t("unsaved"))) return;
  const path = encodeURIComponent(which);
  const [found, tried] = await Promise.all([ask(`/api/protocols/${path}${revision ? `?revision=${revision}` : ""}`), ask(`/api/trial/${path}`)]);
  name = which;
  trial = tried;
  versions = found.versions;
  editor.value = saved = found.text;
  heading.textContent = which;
  said.textContent = "";
  for (const button of list.querySelectorAll(".entry")) button.setAttribute("aria-current", String(button.dataset.name === which));
  check();
}

function edited() {
  verdict.className = "verdict";
  verdict.textContent = t("checking");
  checked = null;
  ready();
  clearTimeout(due);
  due = setTimeout(check, CHECK_MS);
}

async function check() {
  const number = ++asked;
  const found = await ask("/api/check", { text: editor.value });
  if (number !== asked) return;
  checked = found;
  const wrong = checked.problems.length;
  verdict.className = `verdict ${wrong ? "bad" : "good"}`;
  verdict.textContent = wrong ? count(wrong) : `✓ ${t("fine")}`;
  editor.mark(checked.problems.map((problem) => problem.line));
  show();
  ready();
}

function ready() {
  publish.disabled = !checked || checked.problems.length > 0 || !checked.diff.length || reason.value.trim().length < 3;
}

function show() {
  const problems = checked.problems.map((problem) => h("button", { class: "problem", onclick: () => editor.go(problem.line, problem.column) },
    h("b", {}, `${problem.line}:${problem.column}`), h("span", {}, problem.message)));
  tabs.replaceChildren(...["says", "changes", "history", "sweep", "shadow"].map((each) => h("button", {
    role: "tab", "data-tab": each, "aria-pressed": String(each === tab), onclick: () => { tab = each; if (checked) show(); },
  }, t(each))));
  pages.replaceChildren(...problems, ...({ says, changes, history, sweep: () => sweeps(trial.sweeps), shadow: () => shadow(trial.shadow) })[tab]());
}

function says() {
  const spoken = checked.says;
  if (!spoken) return [];
  return [h("div", { class: "says" },
    h("h3", {}, `${spoken.title}, ${t("revision", { r: spoken.revision })}`),
    h("p", {}, t("planned_of", { m: number(spoken.minutes), s: spoken.slot_minutes })),
    h("div", { class: "steps" }, spoken.steps.flatMap((step) => [h("span", {}, step.title), h("span", { class: "soft" }, minutes(step.minutes))])),
    ...spoken.triggers.flatMap((trigger) => [h("h3", {}, trigger.title), ...trigger.sentences.map((line) => h("p", { class: line.startsWith(" ") ? "indent" : "" }, line.trim()))]))];
}

function changes() {
  if (!checked.diff.length) return [h("p", { class: "soft" }, t("unchanged"))];
  const look = { "+": "more", "-": "less", "@": "at" };
  return [h("div", { class: "diff" }, checked.diff.map((line) => h("span", { class: look[line[0]] ?? "" }, line || " ")))];
}

function history() {
  if (!versions.length) return [h("p", { class: "soft" }, t("never_published"))];
  return versions.map((version) => h("div", { class: "version" },
    h("b", {}, `${t("revision", { r: version.revision })} · ${version.user}`),
    h("small", {}, `${new Date(1000 * version.at_s).toLocaleDateString()} ${clock(version.at_s)} · ${version.reason}`),
    h("button", { onclick: () => open(name, version.revision) }, t("open_version"))));
}

async function send() {
  publish.disabled = true;
  try {
    const made = await ask("/api/publish", { text: editor.value, reason: reason.value });
    said.className = "said good";
    said.textContent = t("published", { name: made.name, r: made.revision });
    saved = editor.value;
    reason.value = "";
    name = made.name;
    ({ versions } = await ask(`/api/protocols/${encodeURIComponent(name)}`));
    await Promise.all([check(), listAll()]);
  } catch (error) {
    said.className = "said bad";
    said.textContent = error.message;
    ready();
  }
}
