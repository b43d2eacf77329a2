// Tables of the page: a click on a heading sorts its column, up, then down; that of trades, or of runs, can be searched
// and saved. Without scripts the tables stay as they are.
"use strict";
(() => {
  const text = (cell) => cell.textContent.trim();
  const number = (word) => Number(word.replace("−", "-").replace(/[,%\s]/g, ""));
  const key = (row, column) => {
    const word = text(row.cells[column]), value = number(word);
    return word === "" || Number.isNaN(value) ? word : value;
  };

  function sortable(table) {
    const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const rows = [...body.rows].map((row) => [key(row, column), row]);
        rows.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0) * (down ? -1 : 1));
        body.append(...rows.map(([, row]) => row));
      });
    });
  }

  function searchable(table, form) {
    const rows = () => [...table.tBodies[0].rows], said = form.querySelector("output");
    const place = (name) => [...table.tHead.rows[0].cells].findIndex((head) => head.dataset.column === name);
    const is = (row, name, wanted) => !wanted || text(row.cells[place(name)]) === wanted;
    const fits = (row) => {
      const { words = "", side, kind, result } = Object.fromEntries(new FormData(form));
      const all = text(row).toLowerCase(), money = Number(row.dataset.net);
      return words.toLowerCase().split(/\s+/).every((word) => all.includes(word)) &&
        is(row, "side", side) && is(row, "kind", kind) &&
        (!result || (result === "won") === money > 0);
    };
    const show = () => {
      let sum = 0, count = 0;
      for (const row of rows()) {
        row.hidden = !fits(row);
        if (!row.hidden) [sum, count] = [sum + Number(row.dataset.net), count + 1];
      }
      const { what } = form.dataset, shown = `${count.toLocaleString("en-US")} ${what ?? "trades"}`;
      if (what) return (said.textContent = shown);
      const money = sum.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 }).replace("-", "−");
      return (said.textContent = `${shown}, net ${money}`);
    };
    form.addEventListener("input", show);
    form.addEventListener("submit", (event) => event.preventDefault());
    form.querySelector("button").addEventListener("click", () => save(table, form.dataset.file));
    form.hidden = false;
    show();
  }

  function save(table, name) {
    const cell = (one) => {
      const word = text(one), value = number(word), plain = one.classList.contains("number") && !Number.isNaN(value);
      const kept = !plain ? word : word.endsWith("%") ? String(Number((value / 100).toFixed(6))) : word.replace("−", "-").replace(/[,\s]/g, "");
      return /[",\n]/.test(kept) ? `"${kept.replaceAll('"', '""')}"` : kept;
    };
    const lines = [table.tHead.rows[0], ...[...table.tBodies[0].rows].filter((row) => !row.hidden)];
    const content = lines.map((row) => [...row.cells].map(cell).join(",")).join("\n") + "\n";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([content], { type: "text/csv" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
    table.saved = content;
  }

  document.querySelectorAll("table.sortable").forEach(sortable);
  const searched = document.querySelector("table.searched"), form = document.querySelector("form.search");
  if (searched && form) searchable(searched, form);
})();
