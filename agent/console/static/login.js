import { $, ask } from "/static/dom.js";
import { switchLanguage, t } from "/static/words.js";

for (const element of document.querySelectorAll("[data-word]")) element.textContent = t(element.dataset.word);
$("#language").textContent = t("language");
$("#language").addEventListener("click", switchLanguage);
$("#form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData($("#form"));
  try {
    await ask("/api/login", { name: form.get("name"), password: form.get("password") });
    location.href = "/";
  } catch (error) {
    $("#problem").textContent = { 401: t("wrong_login"), 429: t("too_many") }[error.status] ?? (error.status ? error.message : t("no_server"));
  }
});
