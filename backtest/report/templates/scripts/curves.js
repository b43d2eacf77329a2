// Lines over days, in panes below each other on one axis of time, as SVG: the wheel or keys zoom, a drag pans, and the
// mouse or the arrow keys read a day. A pane may have bands in place of lines: from one day to another, a row each.
"use strict";
const Curves = (() => {
  const AXIS = 24; // pixels for the words below the panes
  const SHEET = 660; // pixels that a sheet of paper has room for
  const NARROWEST = 5; // days in view, at least
  const DASHES = ["", "7 4", "2 3", "9 3 2 3"];
  const DAY = 86400000;
  const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
  const KEYS =
    "Left and right arrow: a session. Shift with an arrow: a tenth of the view. Up, down, plus, minus: zoom. " +
    "Home: everything. Escape: leave a session.";
  const TEXTS = {
    money: (value) => number(value, 2),
    percent: (value) => (Number.isFinite(value) ? `${number(100 * value, 2)}\u00a0%` : "–"),
    number: (value) => number(value, 2),
  };
  const fourDigits = writer({ maximumSignificantDigits: 4 });
  // Money beside an axis, in thousands and millions where it is long.
  const short = (value, digits) => {
    const [size, word] = [[1e9, "B"], [1e6, "M"], [1e3, "k"]].find(([one]) => Math.abs(value) >= 10 * one || (one > 1e3 && Math.abs(value) >= one)) ?? [1, ""];
    return word ? `${fourDigits(value / size)}${word}` : number(value, digits);
  };
  const dayText = (day) => new Date(day * DAY).toISOString().slice(0, 10);

  return class Curves {
    // `about` has what Python's `Curves` says; `columns` the numbers by their names, `day` among them.
    constructor(place, about, columns) {
      Object.assign(this, { place, columns, panes: about.panes, days: columns.day, row: null, logarithmic: about.logarithmic });
      const bands = this.panes.flatMap((pane) => pane.bands ?? []);
      this.whole = {
        from: Math.min(this.days[0], ...bands.map(({ from }) => from)),
        to: Math.max(this.days.at(-1), ...bands.map(({ to }) => to)),
      };
      this.range = { ...this.whole };
      this.makeRoom();
      this.draw();
      new ResizeObserver(() => this.canvas.clientWidth !== this.width && this.draw()).observe(this.canvas);
      // A sheet of paper is narrower than most windows.
      window.addEventListener("beforeprint", () => this.draw(Math.min(this.canvas.clientWidth, SHEET)));
      window.addEventListener("afterprint", () => this.draw());
    }

    makeRoom() {
      this.canvas = element("div", { className: "lines", tabIndex: 0 });
      this.canvas.setAttribute("role", "application");
      this.canvas.setAttribute("aria-roledescription", "chart");
      this.canvas.setAttribute("aria-label", this.place.dataset.words);
      this.drawings = this.panes.map((pane) => {
        const svg = drawn("svg", { "aria-hidden": "true" }), legend = element("div", { className: "names" });
        this.canvas.append(legend, svg);
        return { pane, svg, legend };
      });
      this.axis = drawn("svg", { height: AXIS, "aria-hidden": "true" });
      this.canvas.append(this.axis);
      this.logButton = button("log", "Logarithmic scale", () => this.setLog(!this.logarithmic));
      this.logButton.hidden = !this.panes.some(({ kind }) => kind === "money");
      const bar = element(
        "div", { className: "bar" }, button("+", "Zoom in", () => this.zoom(0.5)), button("−", "Zoom out", () => this.zoom(2)),
        button("reset", "Show everything", () => this.reset()), this.logButton,
      );
      bar.setAttribute("role", "toolbar");
      bar.setAttribute("aria-label", "Chart");
      this.spoken = element("p", { className: "unseen" });
      this.spoken.setAttribute("aria-live", "polite");
      this.place.append(bar, this.canvas, this.spoken, element("p", { className: "keys soft" }, KEYS));
      this.canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
      this.canvas.addEventListener("pointerdown", (event) => this.hold(event));
      this.canvas.addEventListener("pointermove", (event) => this.hover(event));
      this.canvas.addEventListener("pointerleave", () => this.held || this.read(null));
      this.canvas.addEventListener("keydown", (event) => this.press(event));
    }

    // --- what is drawn

    get right() {
      return this.width < 500 ? 62 : 82;
    }

    x(day) {
      return ((day - this.range.from) / (this.range.to - this.range.from)) * (this.width - this.right);
    }

    draw(width = this.canvas.clientWidth) {
      this.width = Math.max(width, 200);
      this.logButton.setAttribute("aria-pressed", String(Boolean(this.logarithmic)));
      for (const drawing of this.drawings) this.drawPane(drawing);
      this.drawAxis();
      this.read(this.row);
    }

    drawPane(drawing) {
      const { pane, svg } = drawing, height = pane.height;
      svg.replaceChildren();
      for (const [name, value] of Object.entries({ width: this.width, height })) svg.setAttribute(name, value);
      const inner = drawn("svg", { width: this.width - this.right, height });
      for (const { day } of this.ticks()) svg.append(drawn("line", { class: "rule", x1: this.x(day), x2: this.x(day), y1: 0, y2: height }));
      if (pane.bands) this.drawBands(pane, inner);
      else this.drawLines(drawing, inner);
      svg.append(drawn("line", { class: "edge", x1: 0, x2: this.width - this.right, y1: height - 0.5, y2: height - 0.5 }), inner);
      drawing.cross = drawn("line", { class: "cross", y1: 0, y2: height, visibility: "hidden" });
      svg.append(drawing.cross);
    }

    drawBands(pane, inner) {
      const rows = 1 + Math.max(...pane.bands.map(({ row }) => row)), size = pane.height / rows;
      for (const { row, from, to, kind, text, title } of pane.bands) {
        const left = this.x(from), wide = Math.max(this.x(to) - left, 1.5), top = row * size + 1;
        const bar = drawn("rect", { class: kind, x: left, y: top, width: wide, height: Math.max(size - 2, 1) });
        bar.append(drawn("title", {}, title));
        inner.append(bar);
        if (text && size >= 14 && wide > 7 * text.length + 6)
          inner.append(drawn("text", { class: "in", x: left + wide / 2, y: top + size / 2 + 3, "text-anchor": "middle" }, text));
      }
    }

    drawLines(drawing, inner) {
      const { pane, svg } = drawing, rows = this.rowsInView();
      const seen = pane.curves.flatMap(({ column }) => [...this.columns[column].subarray(...rows)]).filter(Number.isFinite);
      const levels = pane.curves.map(({ level }) => level).filter(Number.isFinite);
      const scale = this.scaleOf(pane, [...seen, ...levels, ...(pane.from ?? [])]);
      drawing.scale = scale;
      for (const { value, text } of this.marks(pane, scale)) {
        const y = scale.y(value);
        svg.append(drawn("line", { class: "rule", x1: 0, x2: this.width - this.right, y1: y, y2: y }));
        svg.append(drawn("text", { x: this.width - this.right + 6, y: Math.min(Math.max(y + 4, 11), pane.height - 2) }, text));
      }
      for (const curve of [...pane.curves].reverse())
        inner.append(drawn("path", {
          class: "curve", d: this.path(curve, scale, rows), style: `stroke: var(--figure-${curve.colour})`,
          "stroke-dasharray": DASHES[curve.dash ?? 0], "stroke-width": curve.dash ? 1.4 : 1.7,
        }));
    }

    // Of the rows in view the first and the one after the last, with one more on either side, to which lines lead.
    rowsInView() {
      const first = this.days.findIndex((day) => day >= this.range.from), last = this.days.findLastIndex((day) => day <= this.range.to);
      return [Math.max((first < 0 ? this.days.length : first) - 1, 0), Math.min(last + 2, this.days.length)];
    }

    scaleOf(pane, values) {
      const height = pane.height, isLog = this.logarithmic && pane.kind === "money" && values.every((value) => value > 0);
      const turned = isLog ? Math.log : (value) => value;
      let low = Infinity, high = -Infinity;
      for (const value of values) [low, high] = [Math.min(low, turned(value)), Math.max(high, turned(value))];
      if (!(high >= low)) [low, high] = [0, 1];
      if (high === low) [low, high] = [low - (Math.abs(low) || 1) * 0.05, high + (Math.abs(high) || 1) * 0.05];
      const room = pane.choices ? 12 : 8;
      return {
        low, high, isLog, y: (value) => height - room - ((turned(value) - low) / (high - low)) * (height - 2 * room),
      };
    }

    marks(pane, { low, high, isLog }) {
      if (pane.choices) {
        const step = Math.ceil(pane.choices.length / Math.max(Math.floor(pane.height / 16), 1));
        return pane.choices.flatMap((text, value) => (value % step ? [] : [{ value, text }]));
      }
      const [least, most] = isLog ? [Math.exp(low), Math.exp(high)] : [low, high];
      const found = [];
      if (isLog)
        for (let power = Math.floor(Math.log10(least)); power <= Math.log10(most); power++)
          for (const one of [1, 2, 5]) if (one * 10 ** power >= least && one * 10 ** power <= most) found.push(one * 10 ** power);
      if (found.length < 2) {
        const raw = (most - least) / Math.max(pane.height / 45, 1), power = 10 ** Math.floor(Math.log10(raw));
        const step = [1, 2, 5, 10].find((one) => one * power >= raw) * power;
        found.length = 0;
        for (let n = Math.ceil(least / step - 1e-9); n * step <= most + step * 1e-9; n++) found.push(n * step);
      }
      const step = found.length > 1 ? Math.min(...found.slice(1).map((value, n) => value - found[n])) : Math.abs(found[0] ?? 1) || 1;
      const share = pane.kind === "percent" ? 100 : 1, digits = Math.max(0, Math.ceil(-Math.log10(step * share) - 1e-9));
      const text = (value) => (pane.kind === "money" ? short(value || 0, digits) : number(value * share || 0, digits) + (share > 1 ? "\u00a0%" : ""));
      return found.map((value) => ({ value, text: text(value) }));
    }

    // In each pixel of more rows than that the lowest and the highest value, so that no extreme is lost.
    path({ column, step }, { y }, [first, end]) {
      const values = this.columns[column], most = 2 * (this.width - this.right), size = Math.ceil((end - first) / most);
      const points = [];
      for (let row = first; row < end; row += size) {
        let low = row, high = row;
        for (let next = row + 1; next < Math.min(row + size, end); next++) {
          if (!(values[next] >= values[low])) low = next;
          if (!(values[next] <= values[high])) high = next;
        }
        points.push(...new Set(low < high ? [low, high] : [high, low]));
      }
      let pen = "M", text = "";
      for (const row of points) {
        if (!Number.isFinite(values[row])) { pen = "M"; continue; }
        const x = this.x(this.days[row]).toFixed(1), at = y(values[row]).toFixed(1);
        text += pen === "L" && step ? `H${x}V${at}` : `${pen}${x} ${at}`;
        pen = "L";
      }
      return text;
    }

    // The days that are named below the panes, as many as have room.
    ticks() {
      const { from, to } = this.range, room = Math.max((this.width - this.right) / 76, 2), days = (to - from) / room;
      const first = new Date(from * DAY), found = [];
      if (days < 24) {
        const step = [1, 2, 7, 14].find((one) => one >= days) ?? 14;
        for (let day = Math.ceil(from / step) * step; day <= to; day += step) {
          const date = new Date(day * DAY);
          found.push({ day, text: `${date.getUTCDate()} ${MONTHS[date.getUTCMonth()]}${found.length ? "" : ` ${date.getUTCFullYear()}`}` });
        }
        return found;
      }
      const months = [1, 3, 6, 12, 24, 60, 120, 240, 600].find((one) => one * 30.4 >= days) ?? 1200;
      const start = first.getUTCFullYear() * 12 + first.getUTCMonth();
      for (let month = Math.ceil(start / months) * months; ; month += months) {
        const day = Date.UTC(Math.floor(month / 12), month % 12, 1) / DAY;
        if (day > to) return found;
        if (day >= from) found.push({ day, text: month % 12 ? `${MONTHS[month % 12]} ${Math.floor(month / 12)}` : String(Math.floor(month / 12)) });
      }
    }

    drawAxis() {
      this.axis.setAttribute("width", this.width);
      this.axis.replaceChildren();
      const most = this.width - this.right;
      for (const { day, text } of this.ticks()) {
        const half = 3.4 * text.length, x = Math.min(Math.max(this.x(day), half), most - half);
        this.axis.append(drawn("text", { x, y: 16, "text-anchor": "middle" }, text));
      }
    }

    // --- what its reader does

    show(from, to) {
      const whole = this.whole.to - this.whole.from, width = Math.min(Math.max(to - from, Math.min(NARROWEST, whole)), whole);
      const start = Math.min(Math.max((from + to - width) / 2, this.whole.from), this.whole.to - width);
      this.range = { from: start, to: start + width };
      this.draw();
    }

    zoom(factor, around = (this.range.from + this.range.to) / 2) {
      this.show(around - factor * (around - this.range.from), around + factor * (this.range.to - around));
    }

    reset() {
      this.read(null);
      this.show(this.whole.from, this.whole.to);
    }

    setLog(on) {
      this.logarithmic = on;
      this.draw();
    }

    dayAt(event) {
      const x = event.clientX - this.canvas.getBoundingClientRect().left;
      return this.range.from + (x / (this.width - this.right)) * (this.range.to - this.range.from);
    }

    wheel(event) {
      event.preventDefault();
      if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        const by = (event.deltaX / this.width) * (this.range.to - this.range.from);
        return this.show(this.range.from + by, this.range.to + by);
      }
      return this.zoom(1.2 ** (event.deltaY / 100), Math.min(Math.max(this.dayAt(event), this.range.from), this.range.to));
    }

    hold(event) {
      if (event.button) return;
      const { from, to } = this.range, start = event.clientX, scale = (to - from) / (this.width - this.right);
      this.held = true;
      const drag = (moved) => {
        const by = (start - moved.clientX) * scale;
        if (Math.abs(moved.clientX - start) > 3 || this.dragged) {
          this.dragged = true;
          this.show(from + by, to + by);
        }
      };
      const done = () => {
        this.held = this.dragged = false;
        window.removeEventListener("pointermove", drag);
        for (const kind of ["pointerup", "pointercancel"]) window.removeEventListener(kind, done);
      };
      window.addEventListener("pointermove", drag);
      for (const kind of ["pointerup", "pointercancel"]) window.addEventListener(kind, done);
    }

    hover(event) {
      if (this.dragged) return;
      const day = this.dayAt(event);
      let nearest = null;
      if (day <= this.range.to) {
        const after = this.days.findIndex((one) => one >= day), last = after < 0 ? this.days.length - 1 : after;
        nearest = last > 0 && day - this.days[last - 1] < this.days[last] - day ? last - 1 : last;
      }
      this.read(nearest);
    }

    press(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const { from, to } = this.range, tenth = (to - from) / 10;
      const by = (step) => {
        const [first, end] = this.rowsInView(), start = this.row ?? (step > 0 ? first : end);
        const row = Math.min(Math.max(start + step, 0), this.days.length - 1), day = this.days[row];
        if (day < from || day > to) this.show(day - (to - from) / 2, day + (to - from) / 2);
        this.read(row);
        this.spoken.textContent = this.words(row);
      };
      const acts = {
        ArrowLeft: () => (event.shiftKey ? this.show(from - tenth, to - tenth) : by(-1)),
        ArrowRight: () => (event.shiftKey ? this.show(from + tenth, to + tenth) : by(1)),
        ArrowUp: () => this.zoom(0.8), ArrowDown: () => this.zoom(1.25), "+": () => this.zoom(0.8), "=": () => this.zoom(0.8),
        "-": () => this.zoom(1.25), Home: () => this.reset(), Escape: () => this.read(null),
      };
      const act = acts[event.key];
      if (!act) return;
      event.preventDefault();
      act();
    }

    // --- what is said of a session

    textOf(pane, { column }, row) {
      const value = this.columns[column][row];
      return pane.choices ? (pane.choices[value] ?? "–") : TEXTS[pane.kind](value);
    }

    read(row) {
      this.row = row;
      const shown = row ?? this.lastInView();
      for (const { pane, cross, legend } of this.drawings) {
        const inView = row !== null && this.days[row] >= this.range.from && this.days[row] <= this.range.to;
        cross.setAttribute("visibility", inView ? "visible" : "hidden");
        if (inView) for (const end of ["x1", "x2"]) cross.setAttribute(end, this.x(this.days[row]));
        const names = (pane.curves ?? []).map((curve) => {
          const line = drawn("path", { d: "M0 5H22", "stroke-dasharray": DASHES[curve.dash ?? 0], style: `stroke: var(--figure-${curve.colour})` });
          const swatch = drawn("svg", { width: 22, height: 10, "aria-hidden": "true" }, line);
          return element("span", {}, swatch, curve.name ? `${curve.name} ` : "", element("em", {}, this.textOf(pane, curve, shown)));
        });
        const day = pane.bands ? [] : [element("span", {}, dayText(this.days[shown]))];
        legend.replaceChildren(element("b", {}, pane.title), ...day, ...names);
      }
    }

    lastInView() {
      return Math.max(this.days.findLastIndex((day) => day <= this.range.to), 0);
    }

    words(row) {
      const panes = this.panes.filter(({ curves }) => curves);
      const parts = panes.map((pane) => `${pane.title}: ${pane.curves.map((curve) => `${curve.name} ${this.textOf(pane, curve, row)}`).join(", ")}`);
      return [dayText(this.days[row]), ...parts].join(". ");
    }
  };
})();

// The charts of a page that need nothing but what stands in it.
const chartsReady = Promise.all(
  [...document.querySelectorAll(".curves[hidden]")].map(async (place) => {
    if (!window.DecompressionStream) return;
    const about = JSON.parse(place.querySelector(".about").textContent);
    const columns = await unpack(about, place.querySelector(".columns").textContent);
    place.hidden = false;
    place.chart = new Curves(place, about, columns);
    document.documentElement.classList.add("charted", "drawn");
  }),
);
