// The gallery where it is served: it is loaded again when something changed, and runs that are ticked are compared.
"use strict";
(() => {
  const PAUSE = 2000; // milliseconds between two looks
  let known = null;
  setInterval(async () => {
    const answer = await fetch("/version").catch(() => null); // the server may have ended
    const version = answer?.ok ? await answer.text() : known;
    if (known !== null && version !== known) location.reload();
    known = version;
  }, PAUSE);

  const form = document.querySelector("form.search"), rows = [...document.querySelectorAll('tr[data-kind="run"]')];
  if (!form || rows.length < 2) return;
  const compare = Object.assign(document.createElement("button"), { type: "button", textContent: "compare", disabled: true });
  compare.title = "Compare the ticked runs on one page";
  const ticked = () => rows.filter((row) => row.querySelector("input").checked).map((row) => row.dataset.name);
  for (const row of rows) {
    const box = Object.assign(document.createElement("input"), { type: "checkbox" });
    box.setAttribute("aria-label", `Compare ${row.dataset.name}`);
    box.addEventListener("change", () => (compare.disabled = ticked().length < 2));
    row.cells[0].prepend(box, " ");
  }
  compare.addEventListener("click", () => {
    location.href = `/compare?${ticked().map((name) => `run=${encodeURIComponent(name)}`).join("&")}`;
  });
  form.append(compare);
})();
