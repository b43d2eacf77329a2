// The page of a sweep: a map of two parameters, parallel coordinates, and one trial that is selected: its numbers, its
// equity and its neighbours. A click on any picture or on a row of the table selects; so do keys on the map.
"use strict";
(() => {
  const MOST_LINES = 1500; // trials among the parallel coordinates; the best ones, where there are more
  const STRONGEST = 55; // percent of the colour of the highest value: above it words on it would be hard to read
  const SHEET = 660; // pixels that a sheet of paper has room for
  const PIXELS = 7; // of a letter
  const PLACES = { parallel: "parallel-lines", "parallel-told": "parallel-told", stability: "stability-words", neighbours: "neighbours" };

  const median = (values) => {
    const sorted = [...values].sort((a, b) => a - b), middle = sorted.length >> 1;
    return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  };

  class Sweep {
    constructor(root, about, chart) {
      Object.assign(this, { root, about, chart, trials: about.trials, hovered: null });
      this.rankOf = new Map(about.order.map((trial, place) => [trial, place + 1]));
      this.at = (name) => root.querySelector(`[data-part="${name}"]`) ?? document.getElementById(PLACES[name]);
      this.spoken = this.at("spoken");
      this.metric = about.rank;
      this.axes = [0, about.varied.length > 1 ? 1 : null];
      this.makeChoices();
      this.listen();
      root.hidden = false;
      for (const part of document.querySelectorAll(".sweep-only")) part.hidden = false;
      this.select(about.best);
      new ResizeObserver(() => this.at("map").clientWidth !== this.mapWidth && this.drawPictures()).observe(this.at("map"));
      window.addEventListener("beforeprint", () => this.drawPictures(SHEET));
      window.addEventListener("afterprint", () => this.drawPictures());
      root.sweep = this;
    }

    // --- texts

    text(metric, value) {
      const { scale, digits, unit } = this.about.metrics[metric];
      return value === null || !Number.isFinite(value) ? "–" : number(value * scale || 0, digits) + (unit ? `\u00a0${unit}` : "");
    }

    own(trial, metric) {
      return this.trials[trial].texts[metric] ?? "–";
    }

    value(trial, metric) {
      return this.trials[trial].numbers[metric] ?? NaN;
    }

    words(trial) {
      return this.about.varied.map(({ name, values }, n) => `${name}=${values[this.trials[trial].places[n]]}`).join(", ");
    }

    // --- what can be chosen

    makeChoices() {
      const list = (part, options, chosen, act) => {
        const select = this.at(part);
        select.replaceChildren(...options.map(([value, text]) => element("option", { value, selected: value === chosen }, text)));
        select.addEventListener("change", () => { act(Number(select.value)); this.drawPictures(); });
      };
      const names = this.about.varied.map(({ name }, n) => [n, name]);
      list("metric", this.about.metrics.map(({ label }, n) => [n, label]), this.metric, (n) => (this.metric = n));
      list("across", names, 0, (n) => this.turn(0, n));
      list("upwards", names, 1, (n) => this.turn(1, n));
      for (const part of ["across", "upwards"]) this.at(part).parentElement.hidden = names.length < 3;
    }

    turn(side, n) {
      if (this.axes[1 - side] === n) this.axes[1 - side] = this.axes[side];
      this.axes[side] = n;
      ["across", "upwards"].forEach((part, place) => (this.at(part).value = String(this.axes[place])));
    }

    listen() {
      for (const row of document.querySelectorAll("tr[data-trial]")) {
        const cell = row.cells[0], show = button("", "Show this trial", () => {});
        show.removeAttribute("aria-label");
        show.append(...cell.childNodes);
        cell.append(show);
        row.addEventListener("click", () => {
          this.select(Number(row.dataset.trial));
          this.root.scrollIntoView({ block: "start" });
          this.at("map").focus({ preventScroll: true });
        });
      }
      this.at("best").addEventListener("click", () => this.select(this.about.best));
      this.at("better").addEventListener("click", () => this.step(-1));
      this.at("worse").addEventListener("click", () => this.step(1));
      this.at("map").addEventListener("keydown", (event) => this.press(event));
      this.at("parallel").addEventListener("pointermove", (event) => this.hover(this.nearest(event)));
      this.at("parallel").addEventListener("pointerleave", () => this.hover(null));
      this.at("parallel").addEventListener("click", (event) => this.selectIfAny(this.nearest(event)));
    }

    selectIfAny(trial) {
      if (trial !== null) this.select(trial);
    }

    step(by) {
      const { order } = this.about, place = order.indexOf(this.selected) + by;
      if (place >= 0 && place < order.length) this.select(order[place]);
    }

    select(trial) {
      this.selected = trial;
      this.drawPictures();
      this.drawNumbers();
      this.drawEquity();
      this.drawNeighbours();
      for (const row of document.querySelectorAll("tr[data-trial]"))
        row.classList.toggle("selected", Number(row.dataset.trial) === trial);
      this.spoken.textContent = this.summary(trial);
    }

    summary(trial) {
      const rank = this.rankOf.get(trial), { metrics } = this.about;
      const place = rank ? `rank ${number(rank, 0)} of ${number(this.about.order.length, 0)}` : "not ranked";
      return `${this.words(trial)}: ${metrics[this.about.rank].label} ${this.own(trial, this.about.rank)}, ${place}`;
    }

    // --- the map

    drawPictures(widest = Infinity) {
      this.drawMap(widest);
      this.drawParallel(widest);
    }

    // The trials at each place of the map, by [upwards][across].
    cells() {
      const [x, y] = this.axes, { varied } = this.about;
      const rows = y === null ? 1 : varied[y].values.length;
      const cells = Array.from({ length: rows }, () => varied[x].values.map(() => []));
      this.trials.forEach(({ places }, trial) => cells[y === null ? 0 : places[y]][places[x]].push(trial));
      return cells;
    }

    drawMap(widest) {
      const place = this.at("map"), [x, y] = this.axes, { varied, metrics } = this.about, cells = this.cells();
      this.mapWidth = Math.min(place.clientWidth, widest);
      const across = varied[x].values, upwards = y === null ? [""] : varied[y].values;
      const left = Math.min(Math.max(...upwards.map((text) => text.length), 1) * PIXELS + 14, 150);
      const cell = Math.min(Math.max(Math.floor((this.mapWidth - left - 4) / across.length), 18), 140);
      const high = Math.min(Math.max(Math.round(cell * 0.55), 22), 44), top = 22, right = left + cell * across.length;
      const bottom = top + high * upwards.length;
      const values = cells.map((row) => row.map((trials) => {
        const known = trials.map((trial) => this.value(trial, this.metric)).filter(Number.isFinite);
        return known.length ? median(known) : NaN;
      }));
      const known = values.flat().filter(Number.isFinite), least = Math.min(...known), most = Math.max(...known);
      const svg = drawn("svg", { width: right + 3, height: bottom + 44, "aria-hidden": "true" });
      svg.append(drawn("text", { x: 0, y: 13, class: "name" }, y === null ? "" : varied[y].name));
      cells.forEach((row, up) => row.forEach((trials, over) => {
        const value = values[up][over], box = { x: left + over * cell, y: bottom - (up + 1) * high };
        const share = Number.isFinite(value) ? (most > least ? (value - least) / (most - least) : 1) : 0;
        const part = drawn("g", { class: trials.length ? "cell" : "cell empty" });
        const fill = Number.isFinite(value) ? `color-mix(in srgb, var(--figure-run) ${(4 + share * (STRONGEST - 4)).toFixed(1)}%, var(--page))` : "none";
        part.append(drawn("rect", { ...box, width: cell - 2, height: high - 2, rx: 3, style: `fill: ${fill}` }));
        const text = trials.length === 1 ? this.own(trials[0], this.metric) : this.text(this.metric, value);
        if (trials.length && text.length * PIXELS < cell - 4)
          part.append(drawn("text", { x: box.x + cell / 2 - 1, y: box.y + high / 2 + 3, "text-anchor": "middle" }, text));
        if (trials.length) {
          const several = trials.length > 1 ? `, the median of ${trials.length} trials` : "";
          const where = `${varied[x].name}=${across[over]}${y === null ? "" : `, ${varied[y].name}=${upwards[up]}`}`;
          part.append(drawn("title", {}, `${where}: ${metrics[this.metric].label} ${text}${several}`));
          part.addEventListener("click", () => this.select(this.bestOf(trials)));
        }
        for (const [kind, trial] of [["of-best", this.about.best], ["of-selected", this.selected]])
          if (trials.includes(trial)) part.append(drawn("rect", { class: kind, x: box.x - 1, y: box.y - 1, width: cell, height: high, rx: 4 }));
        svg.append(part);
      }));
      upwards.forEach((text, up) => svg.append(drawn("text", { x: left - 8, y: bottom - (up + 0.5) * high + 3, "text-anchor": "end" }, text)));
      const step = Math.ceil((Math.max(...across.map((text) => text.length)) * PIXELS + 8) / cell);
      across.forEach((text, over) => {
        if (over % step === 0) svg.append(drawn("text", { x: left + (over + 0.5) * cell, y: bottom + 15, "text-anchor": "middle" }, text));
      });
      svg.append(drawn("text", { x: (left + right) / 2, y: bottom + 36, "text-anchor": "middle", class: "name" }, varied[x].name));
      place.replaceChildren(svg);
      place.setAttribute("aria-label", `${metrics[this.metric].label} over ${this.axes.filter((n) => n !== null).map((n) => varied[n].name).join(" and ")}`);
      this.at("scale").replaceChildren(
        element("span", {}, this.text(this.metric, least)), element("i", { className: "shades" }), element("span", {}, this.text(this.metric, most)),
        ...["best", "selected"].map((kind) => element("span", { className: "key" }, element("i", { className: `mark ${kind}` }), `${kind} trial`)),
      );
    }

    // Of the trials at a place the one with the best rank, else the first.
    bestOf(trials) {
      return [...trials].sort((a, b) => (this.rankOf.get(a) ?? Infinity) - (this.rankOf.get(b) ?? Infinity))[0];
    }

    press(event) {
      const [x, y] = this.axes, by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      const cells = this.cells(), { places } = this.trials[this.selected];
      let over = places[x] + by[0], up = (y === null ? 0 : places[y]) + by[1];
      while (cells[up]?.[over]?.length === 0) [over, up] = [over + by[0], up + by[1]];
      if (cells[up]?.[over]) this.select(this.bestOf(cells[up][over]));
    }

    // --- parallel coordinates

    drawParallel(widest) {
      const place = this.at("parallel"), { varied, metrics, order, best } = this.about;
      const shown = [...new Set([this.about.rank, ...this.about.beside])];
      const axes = [
        ...varied.map(({ name, values }, n) => ({
          name, ends: [values[0], values.at(-1)], share: (trial) => (values.length > 1 ? this.trials[trial].places[n] / (values.length - 1) : 0.5),
        })),
        ...shown.map((metric) => this.axisOf(metric)),
      ];
      const width = Math.max(Math.min(place.clientWidth, widest), Number.isFinite(widest) ? 0 : axes.length * 96), top = 40, high = 230, edge = 46;
      const x = (n) => edge + (n * (width - 2 * edge)) / Math.max(axes.length - 1, 1), y = (share) => top + (1 - share) * high;
      const drawnTrials = order.slice(0, MOST_LINES);
      this.lines = drawnTrials.map((trial) => ({ trial, points: axes.map((axis, n) => [x(n), y(axis.share(trial))]) }));
      const svg = drawn("svg", { width, height: top + high + 28, "aria-hidden": "true" });
      const line = ({ trial, points }, kind, more = {}) =>
        drawn("path", { class: kind, d: `M${points.map((point) => point.map((one) => one.toFixed(1)).join(" ")).join("L")}`, ...more });
      const count = this.lines.length, faint = Math.min(0.12, 8 / count); // so that many do not hide the best
      [...this.lines].reverse().forEach((one, n) => svg.append(line(one, "trial", { opacity: (faint + 0.6 * ((n + 1) / count) ** (3 + count / 100)).toFixed(3) })));
      for (const [kind, trial] of [["best", best], ["selected", this.selected]]) {
        const one = this.lines.find((each) => each.trial === trial);
        if (one) svg.append(line(one, `trial ${kind}`));
      }
      this.over = drawn("path", { class: "trial over", visibility: "hidden" });
      svg.append(this.over);
      axes.forEach(({ name, ends }, n) => {
        const anchor = { "text-anchor": "middle", x: x(n) };
        svg.append(
          drawn("line", { class: "axis", x1: x(n), x2: x(n), y1: top, y2: top + high }),
          drawn("text", { ...anchor, y: 14, class: "name" }, name), drawn("text", { ...anchor, y: 31 }, ends[1]),
          drawn("text", { ...anchor, y: top + high + 17 }, ends[0]),
        );
      });
      place.replaceChildren(svg);
      this.at("parallel-told").textContent = this.summary(this.selected);
    }

    axisOf(metric) {
      const known = this.about.order.map((trial) => this.value(trial, metric)).filter(Number.isFinite);
      const least = Math.min(...known), most = Math.max(...known);
      return {
        name: this.about.metrics[metric].short, ends: [least, most].map((value) => this.text(metric, value)),
        share: (trial) => (most > least && Number.isFinite(this.value(trial, metric)) ? (this.value(trial, metric) - least) / (most - least) : 0.5),
      };
    }

    // The trial whose line is nearest to the mouse, where one is near.
    nearest(event) {
      const box = this.at("parallel").firstElementChild.getBoundingClientRect(), at = event.clientX - box.left, down = event.clientY - box.top;
      let found = null, least = 12;
      for (const { trial, points } of this.lines) {
        const n = Math.min(Math.max(points.findIndex(([x]) => x >= at), 1), points.length - 1);
        if (!points[n]) continue;
        const [[x1, y1], [x2, y2]] = [points[n - 1], points[n]];
        const away = Math.abs(y1 + ((Math.min(Math.max(at, x1), x2) - x1) / (x2 - x1)) * (y2 - y1) - down);
        if (away < least) [found, least] = [trial, away];
      }
      return found;
    }

    hover(trial) {
      const one = this.lines.find((each) => each.trial === trial);
      this.over.setAttribute("visibility", one ? "visible" : "hidden");
      if (one) this.over.setAttribute("d", `M${one.points.map((point) => point.join(" ")).join("L")}`);
      this.at("parallel-told").textContent = this.summary(one ? trial : this.selected);
    }

    // --- the trial that is selected

    drawNumbers() {
      const { metrics, best, order } = this.about, trial = this.selected, { error } = this.trials[trial];
      const rank = this.rankOf.get(trial);
      this.at("name").textContent = this.words(trial);
      this.at("place").textContent = rank ? `Rank ${number(rank, 0)} of ${number(order.length, 0)}.` : error ? `Failed: ${error}` : "Not ranked.";
      this.at("numbers").replaceChildren(...metrics.map(({ label, name }, n) => {
        const row = element("tr", {}, element("td", {}, label));
        row.dataset.metric = name;
        const middle = order.map((one) => this.value(one, n)).filter(Number.isFinite);
        for (const text of [this.own(trial, n), this.own(best, n), middle.length ? this.text(n, median(middle)) : "–"])
          row.append(element("td", { className: "number" }, text));
        return row;
      }));
    }

    drawEquity() {
      if (!this.chart) return;
      const pane = this.chart.panes[0], [best, ...others] = this.about.lines, own = `trial.${this.selected}`;
      const line = this.chart.columns[own] ? [{ name: this.words(this.selected), column: own, colour: "run" }] : [];
      pane.curves = [...line, ...(this.selected === this.about.best ? [] : [best]), ...others];
      this.chart.draw();
      this.at("no-equity").hidden = line.length > 0;
    }

    neighbours(trial) {
      const { places } = this.trials[trial];
      return this.about.order.filter((other) => other !== trial && this.trials[other].places.every((one, n) => Math.abs(one - places[n]) <= 1));
    }

    // What the neighbours of a trial have, by which trials are ranked.
    theirs(values, whose) {
      const { rank, metrics } = this.about, { label } = metrics[rank];
      const [lowest, highest, middle] = [Math.min(...values), Math.max(...values), median(values)].map((one) => this.text(rank, one));
      const [who, have] = values.length === 1
        ? ["The one neighbour", `has ${label} ${middle}`]
        : [`The ${values.length} neighbours`, `have ${label} from ${lowest} to ${highest}, median ${middle}`];
      return `${who} of ${whose}, each parameter at most one step away, ${have}`;
    }

    drawNeighbours() {
      const { rank } = this.about, near = this.neighbours(this.selected);
      const whose = this.selected === this.about.best ? "the best trial" : "the selected trial";
      this.at("stability").textContent = near.length
        ? `${this.theirs(near.map((trial) => this.value(trial, rank)), whose)}; ${whose} has ${this.own(this.selected, rank)}.`
        : `No neighbour of ${whose} was tried: no other trial has each parameter at most one step away.`;
      const shown = [...new Set([rank, ...this.about.beside])];
      this.at("neighbours").replaceChildren(...near.map((trial) => {
        const row = element("tr", {}), show = button(this.words(trial), "Show this trial", () => this.select(trial));
        show.removeAttribute("aria-label");
        row.append(element("td", {}, show), element("td", { className: "number" }, number(this.rankOf.get(trial), 0)));
        row.append(...shown.map((metric) => element("td", { className: "number" }, this.own(trial, metric))));
        return row;
      }));
    }
  }

  const root = document.querySelector(".sweep");
  chartsReady.then(() => {
    new Sweep(root, JSON.parse(root.querySelector(".sweep-about").textContent), document.querySelector("#equity")?.chart);
    root.dispatchEvent(new Event("ready"));
  });
})();
