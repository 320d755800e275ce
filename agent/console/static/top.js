// The bar at the top: title, state of the engine, the other pages, who is here.
import { $, ask, h } from "/static/dom.js";
import { switchLanguage, t } from "/static/words.js";

export async function top(current) {
  const me = await ask("/api/me");
  const link = (path, word) => h("a", { href: path, "aria-current": path === current ? "page" : null }, t(word));
  const title = h("div", { class: "title" });
  const badges = h("div", { class: "badges" });
  $("#top").replaceChildren(
    h("a", { class: "mark", href: "/" }, h("img", { src: "/static/mark.svg", alt: "" }), "Boreside"),
    title,
    h("div", { class: "space" }),
    badges,
    me.engineer ? h("nav", {}, link("/", "exam"), link("/protocols", "protocols"), link("/connections", "connections")) : "",
    h("button", { class: "quiet", onclick: switchLanguage }, t("language")),
    h("span", { class: "soft" }, me.guest ? t("guest") : me.name),
    me.guest ? "" : h("button", { class: "quiet", onclick: async () => { await ask("/api/logout", {}); location.href = "/login"; } }, t("log_out")),
  );
  return { me, title, badges };
}
