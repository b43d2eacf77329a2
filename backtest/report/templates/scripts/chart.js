// The interactive charts of a page: one time axis over several panes, drawn by TradingView's Lightweight Charts.
//
// A row is a bar of the run. On the time axis a bar i reaches from i to i + 1; a range is {from, to} on it. Where more
// bars are in view than the screen has pixels, 2 ** level of them are drawn as one, with their extremes; the library
// holds the bars in view and some on either side, and is given others as the view moves.
"use strict";
(() => {
  const library = window.LightweightCharts;
  const DENSITY = 1.6; // bars for each pixel, at most
  const VIEWS = 4; // of bars that the library holds on either side of those in view
  const FEWEST = 6000; // bars that it holds at least, if there are so many
  const DAYS_APART = 20; // days in view, of which labels are days
  const NARROWEST = 8; // bars in view, at least
  const MARKED = 8; // pixels of the chart's width for each trade whose ends are marked; more marks would hide the prices
  const DASHED = 1500; // trades in view of which losses are dashed lines; more take long to draw
  const LISTED = 4; // trades and orders of a bar in its description
  const HELD = 6; // series with a position that are named while the mouse moves; all of them where it was led to
  const PALETTE = ["#d98e04", "#8b5cd6", "#0f9d8a", "#c2477f", "#6b8e23", "#b0652f", "#3b6fd4", "#7a7f87"];
  const KEYS =
    "Left and right arrow: a bar. Shift with an arrow: a tenth of the view. Up, down, plus, minus: zoom. " +
    "Home: everything. End: the last bars. N, P: next and previous trade. L: logarithmic scale. Escape: leave a bar.";

  const signed = (value) => (value > 0 ? "+" : "") + number(value, 2);
  // At least two decimals, and as many as it has.
  const price = writer({ minimumFractionDigits: 2, maximumFractionDigits: 8 });
  const percent = (value, digits = 2) => (Number.isFinite(value) ? `${number(100 * value, digits)} %` : "–");
  const plain = writer({ maximumFractionDigits: 8 });
  const [fourDigits, sevenDigits] = [4, 7].map((digits) => writer({ maximumSignificantDigits: digits }));

  // --- several bars as one

  const CHOICES = {
    first: (one, other) => (Number.isNaN(one) ? other : one),
    last: (one, other) => (Number.isNaN(other) ? one : other),
    lowest: (one, other) => (one <= other || Number.isNaN(other) ? one : other),
    highest: (one, other) => (one >= other || Number.isNaN(other) ? one : other),
    sum: (one, other) => (Number.isNaN(one) ? other : Number.isNaN(other) ? one : one + other),
  };

  class Levels {
    constructor(values) {
      this.made = Object.fromEntries(Object.keys(CHOICES).map((choice) => [choice, [values]]));
    }

    at(level, choice) {
      const made = this.made[choice];
      while (made.length <= level) {
        const finer = made[made.length - 1];
        const coarser = new Float64Array(Math.ceil(finer.length / 2));
        for (let i = 0; i < coarser.length; i++)
          coarser[i] = 2 * i + 1 < finer.length ? CHOICES[choice](finer[2 * i], finer[2 * i + 1]) : finer[2 * i];
        made.push(coarser);
      }
      return made[level];
    }
  }

  // --- a chart

  class Chart {
    constructor(place, about, columns) {
      this.place = place;
      this.about = about;
      this.rows = about.rows;
      this.levels = {};
      for (const [name, values] of Object.entries(columns)) this.levels[name] = new Levels(values);
      this.columns = columns;
      this.times = this.localTimes();
      this.addTrades();
      this.series = 0;
      this.selected = -1;
      this.bar = null;
      this.logarithmic = false;
      this.range = { from: 0, to: this.rows };
      this.makeRoom();
      this.build();
    }

    // Seconds on the exchange's clocks, made to rise where these are put back: the library wants each time once.
    localTimes() {
      const { rows, columns: { time }, about: { offsets } } = this;
      const times = new Float64Array(rows), clock = new Float64Array(rows);
      let last = -Infinity;
      for (const [place, [first, ahead]] of offsets.entries()) {
        const end = offsets[place + 1]?.[0] ?? rows;
        for (let row = first; row < end; row++) {
          const now = (clock[row] = time[row] + ahead);
          last = times[row] = now > last ? now : last + 1;
        }
      }
      this.clock = clock;
      return times;
    }

    addTrades() {
      const of = (name) => this.columns[`trade.${name}`];
      this.trades = [...of("entry")].map((entry, place) => ({
        place, entry, exit: of("exit")[place], series: of("series")[place], size: of("size")[place],
        entryPrice: of("entry_price")[place], exitPrice: of("exit_price")[place], net: of("net")[place],
        part: of("return")[place], bars: of("bars")[place], costs: of("costs")[place], dividends: of("dividends")?.[place] ?? 0,
      }));
      this.byEntry = [...this.trades].sort((a, b) => a.entry - b.entry || a.place - b.place);
      const results = new Float64Array(this.rows).fill(NaN);
      const gains = results.slice(), losses = results.slice();
      for (const { exit, net } of this.trades) {
        results[exit] = CHOICES.sum(results[exit], net);
        const side = net > 0 ? gains : losses;
        side[exit] = (net > 0 ? CHOICES.highest : CHOICES.lowest)(net, side[exit]);
      }
      Object.assign(this.levels, { results: new Levels(results), gains: new Levels(gains), losses: new Levels(losses) });
      this.orders = new Map();
      const rows = this.columns["order.row"];
      rows.forEach((row, place) => this.orders.set(row, [...(this.orders.get(row) ?? []), place]));
    }

    // --- what is around the canvas

    makeRoom() {
      const list = element("select", { className: "series", title: "Series" });
      list.setAttribute("aria-label", "Series");
      this.about.series.forEach(({ name }, place) => list.append(element("option", { value: place }, name)));
      list.addEventListener("change", () => this.chooseSeries(Number(list.value)));
      list.hidden = this.about.series.length < 2;
      this.list = list;
      this.selecting = button("⬚", "Zoom to a selection: drag over it (or hold Shift)", () => this.select(!this.isSelecting));
      this.logButton = button("log", "Logarithmic scale of prices and equity", () => this.setLog(!this.logarithmic));
      for (const toggle of [this.selecting, this.logButton]) toggle.setAttribute("aria-pressed", "false");
      const trades = [
        button("‹ trade", "Previous trade", () => this.step(-1)),
        button("trade ›", "Next trade", () => this.step(1)),
      ];
      this.bars = element(
        "div", { className: "bar" }, list, ...(this.trades.length ? trades : []),
        button("+", "Zoom in", () => this.zoom(0.5)), button("−", "Zoom out", () => this.zoom(2)), this.selecting,
        button("reset", "Show everything", () => this.reset()), this.logButton,
        button("PNG", "Save the chart as a picture", () => this.save()),
      );
      this.bars.setAttribute("role", "toolbar");
      this.bars.setAttribute("aria-label", "Chart");
      this.canvas = element("div", { className: "canvas", tabIndex: 0 });
      this.canvas.setAttribute("role", "application");
      this.canvas.setAttribute("aria-roledescription", "chart");
      this.canvas.setAttribute("aria-label", this.place.dataset.words);
      this.keys = element("p", { className: "keys soft" }, KEYS);
      this.keys.id = `keys-${Math.random().toString(36).slice(2)}`;
      this.canvas.setAttribute("aria-describedby", this.keys.id);
      this.told = element("p", { className: "told" });
      this.spoken = element("p", { className: "unseen" });
      this.spoken.setAttribute("aria-live", "polite");
      this.place.append(this.bars, this.canvas, this.told, this.spoken, this.keys);
      this.canvas.addEventListener("keydown", (event) => this.press(event));
      this.canvas.addEventListener("pointerdown", (event) => this.hold(event), true);
      for (const kind of ["mousedown", "touchstart"]) // by which the library begins to pan
        this.canvas.addEventListener(kind, (event) => this.isMarking && event.stopPropagation(), true);
      window.addEventListener("pointerup", () => this.release(), true);
      window.addEventListener("pointercancel", () => this.release(), true);
    }

    colour(name) {
      return getComputedStyle(this.place).getPropertyValue(`--${name}`).trim();
    }

    // --- what is drawn

    build() {
      this.chart?.remove();
      this.canvas.replaceChildren();
      const ink = this.colour("soft"), line = this.colour("line"), page = this.colour("page");
      this.chart = library.createChart(this.canvas, {
        autoSize: true,
        layout: {
          background: { type: "solid", color: page }, textColor: ink, fontSize: 12,
          fontFamily: getComputedStyle(this.place).fontFamily, attributionLogo: false,
          panes: { separatorColor: line, separatorHoverColor: this.colour("figure-hold") },
        },
        grid: { vertLines: { color: line, style: 1 }, horzLines: { color: line, style: 1 } },
        crosshair: { mode: 0 },
        rightPriceScale: { borderColor: line, entireTextOnly: true, minimumWidth: this.canvas.clientWidth < 500 ? 58 : 78 },
        timeScale: {
          borderColor: line, timeVisible: !this.about.daily, secondsVisible: false, minBarSpacing: 0.2,
          shiftVisibleRangeOnNewBar: false, lockVisibleTimeRangeOnResize: true,
        },
        handleScroll: { vertTouchDrag: false },
        localization: { locale: "en-US", timeFormatter: (time) => this.clockText(time) },
      });
      this.drawings = [];
      this.heights = [];
      this.titles = [];
      this.legends = [];
      this.boxes = null;
      this.addPanes();
      const small = this.canvas.clientWidth < 500 ? 0.8 : 1;
      this.canvas.style.height = `${Math.round(small * this.heights.reduce((sum, height) => sum + height, 28))}px`;
      this.chart.panes().forEach((pane, place) => {
        const height = small * this.heights[place], lines = small < 1 ? (place ? 2 : 3) : 1; // of its legend
        pane.setStretchFactor(this.heights[place]);
        pane.priceScale("right").applyOptions({ scaleMargins: { top: Math.min((6 + 17 * lines) / height, 0.5), bottom: 0.1 } });
      });
      this.view = null;
      this.chart.timeScale().subscribeVisibleLogicalRangeChange((logical) => this.moved(logical));
      this.chart.subscribeCrosshairMove((point) => this.hover(point));
      this.setLog(this.logarithmic);
      this.show(this.range.from, this.range.to);
      requestAnimationFrame(() => this.addLegends());
    }

    addPanes() {
      const { run, hold, gain, loss } = Object.fromEntries(
        ["run", "hold", "gain", "loss"].map((name) => [name, this.colour(`figure-${name}`)]),
      );
      const { currency, series, plots } = this.about;
      const money = { type: "custom", minMove: 0.01, formatter: (value) => shortMoney(value) };
      const share = { type: "custom", minMove: 0.0001, formatter: (value) => `${number(100 * value, 1)} %` };
      const quiet = { lastValueVisible: false, priceLineVisible: false, crosshairMarkerVisible: false };
      const n = this.series, s = series[n];

      this.pane(120, `Equity, ${currency}`);
      this.line("hold", { ...quiet, color: hold, lineWidth: 1, lineStyle: 2, priceFormat: money }, `buy and hold ${this.about.benchmark}`, (v) => number(v, 2));
      this.equity = this.line("equity", { ...quiet, color: run, lineWidth: 2, priceFormat: money }, "strategy", (v) => number(v, 2));
      this.pane(76, "Drawdown at session ends");
      this.depth("drawdown", { ...quiet, bottomLineColor: loss, bottomFillColor1: faint(loss, "14"), bottomFillColor2: faint(loss), lineWidth: 1, priceFormat: share }, "", (v) => percent(v));
      if (this.trades.length) {
        this.pane(70, `Closed trades, ${currency}`);
        this.histogram("gains", { ...quiet, color: gain, priceFormat: money }, null, null, "highest");
        this.histogram("losses", { ...quiet, color: loss, priceFormat: money }, null, null, "lowest");
        this.legendOf("results", "", (v) => (Number.isFinite(v) ? signed(v) : "none"), "sum");
      }

      this.pane(300, s.name);
      const digits = this.axisDigits(`close.${n}`);
      const format = { type: "price", precision: digits, minMove: 10 ** -digits };
      this.prices = s.bars ? this.candles(n, { gain, loss, format }) : this.line(`close.${n}`, { ...quiet, lastValueVisible: true, color: hold, lineWidth: 1, priceFormat: format }, "close", price);
      this.pricePane = this.heights.length - 1;
      this.prices.attachPrimitive(new Marks(this, { gain, loss, ink: this.colour("text"), page: this.colour("page") }));
      const shown = plots.filter((plot) => plot.series === n || plot.series === null);
      let colours = 0;
      const draw = (plot) => {
        for (const [place, line] of plot.lines.entries()) {
          const colour = line.colour || PALETTE[colours++ % PALETTE.length];
          const label = plot.lines.length > 1 ? `${plot.label} ${line.name}` : plot.label;
          this.indicator(`line.${plot.number}.${place}`, line, colour, label, quiet);
        }
        for (const level of plot.levels)
          this.drawings.at(-1).series.createPriceLine({ price: level, color: this.colour("figure-grid"), lineWidth: 1, lineStyle: 1, axisLabelVisible: false });
      };
      shown.filter(({ pane }) => pane === -1).forEach(draw);
      for (const pane of new Set(shown.map(({ pane }) => pane).filter((pane) => pane >= 0))) {
        this.pane(84, "");
        shown.filter((plot) => plot.pane === pane).forEach(draw);
      }

      if (s.bars && this.columns[`volume.${n}`].some((volume) => volume > 0)) {
        this.pane(62, "Volume");
        const volume = { type: "custom", minMove: 1, formatter: shortMoney };
        this.histogram(`volume.${n}`, { ...quiet, color: faint(this.colour("figure-ink"), "99"), priceFormat: volume }, null, null, "highest");
        this.legendOf(`volume.${n}`, "", (v) => plain(v), "sum");
      }
      this.pane(56, "Position");
      this.line(`position.${n}`, { ...quiet, color: run, lineWidth: 1, lineType: 1, priceFormat: { type: "custom", minMove: 0.00000001, formatter: shortMoney } }, "", (v) => plain(v), "last");
    }

    // Decimals for the axis: as many as show a thousandth of the highest value, two at least.
    axisDigits(name) {
      const highest = this.columns[name].reduce((most, value) => (Math.abs(value) > most ? Math.abs(value) : most), 0);
      return Math.min(Math.max(3 - Math.floor(Math.log10(highest || 1)), 2), 8);
    }

    pane(height, title) {
      this.heights.push(height);
      this.titles.push(title);
    }

    add(kind, options) {
      return this.chart.addSeries(kind, options, this.heights.length - 1);
    }

    candles(n, { gain, loss, format }) {
      const series = this.add(library.CandlestickSeries, {
        upColor: gain, downColor: loss, borderVisible: false, wickUpColor: gain, wickDownColor: loss,
        priceLineVisible: false, priceFormat: format,
      });
      const chosen = { open: "first", high: "highest", low: "lowest", close: "last" };
      const at = (level, time, place) => {
        const item = { time };
        for (const name in chosen) item[name] = this.levels[`${name}.${n}`].at(level, chosen[name])[place];
        return Number.isNaN(item.close) ? { time } : item;
      };
      this.drawings.push({ series, pane: this.heights.length - 1, at });
      for (const [name, word] of Object.entries({ open: "O", high: "H", low: "L", close: "C" }))
        this.legendOf(`${name}.${n}`, word, price, chosen[name]);
      return series;
    }

    // A line shows in each pair of coarser bars the lowest, then the highest value of the two.
    line(name, options, label, text, choice = "last") {
      return this.drawLine(library.LineSeries, name, options, label, text, choice);
    }

    // A line below 0, the space between filled.
    depth(name, options, label, text) {
      const level = { baseValue: { type: "price", price: 0 }, topLineColor: options.bottomLineColor };
      return this.drawLine(library.BaselineSeries, name, { ...level, ...options }, label, text, "lowest");
    }

    drawLine(kind, name, options, label, text, choice) {
      const series = this.add(kind, options), levels = this.levels[name];
      const at = (level, time, place) => {
        if (!level) return valued(time, levels.at(0, "last")[place]);
        const whole = levels.at(level + 1, place % 2 ? "highest" : "lowest")[place >> 1];
        return valued(time, whole);
      };
      this.drawings.push({ series, pane: this.heights.length - 1, at, gaps: options.color });
      this.legendOf(name, label, text, choice, options.color ?? options.bottomLineColor);
      return series;
    }

    histogram(name, options, label, text, choice) {
      const series = this.add(library.HistogramSeries, { ...options, base: 0 }), levels = this.levels[name];
      this.drawings.push({ series, pane: this.heights.length - 1, at: (level, time, place) => valued(time, levels.at(level, choice)[place]) });
      return series;
    }

    indicator(name, { kind, width, dash }, colour, label, quiet) {
      const digits = this.axisDigits(name), priceFormat = { type: "price", precision: digits, minMove: 10 ** -digits };
      if (kind === "bars") {
        const levels = this.levels[name], series = this.add(library.HistogramSeries, { ...quiet, color: faint(colour, "aa"), priceFormat });
        const at = (level, time, place) => {
          const low = levels.at(level, "lowest")[place], high = levels.at(level, "highest")[place];
          return valued(time, Math.abs(low) > Math.abs(high) ? low : high);
        };
        this.drawings.push({ series, pane: this.heights.length - 1, at });
        this.legendOf(name, label, sevenDigits, "last", colour);
        return;
      }
      const points = kind === "points" ? { lineVisible: false, pointMarkersVisible: true, pointMarkersRadius: 3 } : {};
      this.line(name, { ...quiet, color: colour, lineWidth: width, lineStyle: dash, priceFormat, ...points }, label, sevenDigits);
    }

    legendOf(name, label, text, choice, colour = "") {
      this.legends.push({ pane: this.heights.length - 1, levels: this.levels[name], label, text, choice, colour });
    }

    addLegends() {
      this.boxes = this.chart.panes().map((pane, place) => {
        const cell = pane.getHTMLElement()?.querySelector("td:nth-child(2) > div");
        const box = element("div", { className: "legend" });
        box.append(element("b", {}, this.titles[place]), element("span", { className: "values" }));
        cell?.append(box);
        return box;
      });
      this.describe(this.bar);
    }

    // --- the part of the bars that is drawn

    levelFor(from, to) {
      const width = Math.max(this.chart.timeScale().width() || this.canvas.clientWidth, 100);
      return Math.max(0, Math.ceil(Math.log2((to - from) / (DENSITY * width))));
    }

    clamped(from, to) {
      const widest = 1.1 * this.rows + 2;
      const width = Math.min(Math.max(to - from, Math.min(NARROWEST, widest)), widest);
      const middle = Math.min(Math.max((from + to) / 2, 0), this.rows);
      return { from: middle - width / 2, to: middle + width / 2 };
    }

    show(from, to) {
      const range = this.clamped(from, to);
      const level = this.levelFor(range.from, range.to);
      if (!this.holds(level, range)) this.load(level, range);
      this.range = range;
      if (!this.settling) requestAnimationFrame(() => this.settle());
      this.settling = 2; // frames, until which the library tells of ranges on the way
      const size = 2 ** level;
      this.chart.timeScale().setVisibleLogicalRange({
        from: range.from / size - this.view.start, to: range.to / size - this.view.start - 1,
      });
    }

    holds(level, { from, to }) {
      if (this.view?.level !== level) return false;
      const size = 2 ** level, { start, end, count } = this.view;
      return (start === 0 || from / size > start + 1) && (end === count || to / size < end - 1);
    }

    load(level, { from, to }) {
      const size = 2 ** level, count = Math.ceil(this.rows / size);
      const around = Math.max(VIEWS * (to - from) / size, FEWEST / 2), middle = (from + to) / 2 / size;
      // An even start, as lines are drawn by pairs of bars.
      const start = Math.min(Math.max(2 * Math.floor((middle - around) / 2), 0), Math.max(count - 1, 0));
      const end = Math.min(Math.ceil(middle + around), count);
      // The library keeps the labels that it asked for, until it is given what makes them again.
      if (this.view?.level !== level) this.chart.timeScale().applyOptions({ tickMarkFormatter: (time, kind) => this.tickText(time, kind) });
      this.view = { level, start, end: Math.max(end, Math.min(start + 1, count)), count };
      for (const { series, at, gaps } of this.drawings) {
        const items = [];
        for (let place = start; place < this.view.end; place++) items.push(at(level, this.times[place * size], place));
        series.setData(gaps ? broken(items) : items);
      }
    }

    moved(logical) {
      if (!logical || this.settling || !this.view) return;
      this.range = this.rangeOf(logical);
      if (!this.waiting) requestAnimationFrame(() => this.follow());
      this.waiting = true;
    }

    rangeOf(logical) {
      const size = 2 ** this.view.level;
      return { from: (logical.from + this.view.start) * size, to: (logical.to + this.view.start + 1) * size };
    }

    follow() {
      this.waiting = false;
      if (this.bar === null && !this.isOver) this.describe(null);
      if (this.isHeld) return;
      const { from, to } = this.range, range = this.clamped(from, to);
      const off = Math.abs(range.from - from) + Math.abs(range.to - to) > 1e-6 * this.rows + 0.01;
      if (off || !this.holds(this.levelFor(from, to), this.range)) this.show(range.from, range.to);
    }

    settle() {
      this.settling--;
      if (this.settling) requestAnimationFrame(() => this.settle());
      else if (this.bar === null && !this.isOver) this.describe(null);
    }

    // --- what its reader does

    hold(event) {
      this.isHeld = true;
      if (!(event.shiftKey || this.isSelecting) || event.button) return;
      this.isMarking = true;
      event.preventDefault();
      event.stopPropagation();
      const box = this.canvas.getBoundingClientRect();
      const shade = element("div", { className: "selection" });
      this.canvas.append(shade);
      const right = this.chart.timeScale().width();
      const inside = (x) => Math.min(Math.max(x - box.left, 0), right);
      const start = inside(event.clientX);
      const drag = (moved) => {
        const end = inside(moved.clientX);
        Object.assign(shade.style, { left: `${Math.min(start, end)}px`, width: `${Math.abs(end - start)}px` });
        moved.stopPropagation();
      };
      const done = (last) => {
        window.removeEventListener("pointermove", drag, true);
        window.removeEventListener("pointerup", done, true);
        shade.remove();
        this.isMarking = false;
        this.select(false);
        const end = inside(last.clientX), { from, to } = this.range, scale = (to - from) / right;
        if (Math.abs(end - start) > 4) this.show(from + Math.min(start, end) * scale, from + Math.max(start, end) * scale);
      };
      window.addEventListener("pointermove", drag, true);
      window.addEventListener("pointerup", done, true);
    }

    release() {
      if (!this.isHeld) return;
      this.isHeld = false;
      requestAnimationFrame(() => this.follow());
    }

    select(on) {
      this.isSelecting = on;
      this.selecting.setAttribute("aria-pressed", String(on));
      this.canvas.classList.toggle("selecting", on);
    }

    setLog(on) {
      this.logarithmic = on;
      this.logButton.setAttribute("aria-pressed", String(on));
      for (const series of [this.prices, this.equity]) series.priceScale().applyOptions({ mode: on ? 1 : 0 });
    }

    chooseSeries(place) {
      if (place === this.series) return;
      this.series = place;
      this.list.value = String(place);
      this.build();
    }

    zoom(factor) {
      const { from, to } = this.range;
      const middle = this.bar !== null && this.bar >= from && this.bar < to ? this.bar + 0.5 : (from + to) / 2;
      this.show(middle - factor * (middle - from), middle + factor * (to - middle));
    }

    reset() {
      this.selected = -1;
      this.leave();
      this.show(0, this.rows);
    }

    step(by) {
      const places = this.byEntry.map(({ place }) => place), now = places.indexOf(this.selected);
      const next = now < 0 ? this.nearest(by) : now + by;
      if (next >= 0 && next < places.length) this.goTo(places[next]);
    }

    // The first trade that is entered in view, or the last one before.
    nearest(by) {
      const from = this.bar ?? this.range.from, after = this.byEntry.findIndex(({ entry }) => entry >= from);
      return by > 0 ? after : (after < 0 ? this.byEntry.length : after) - 1;
    }

    goTo(place) {
      const trade = this.trades[place];
      this.selected = place;
      if (trade.series >= 0) this.chooseSeries(trade.series);
      const room = Math.max(15, Math.ceil((trade.exit - trade.entry) / 2));
      this.show(trade.entry - room, trade.exit + 1 + room);
      this.cross(trade.entry);
      this.spoken.textContent = this.tradeText(trade);
    }

    // The days from one to another, or to the end of the run, with a tenth of them on either side.
    showDates(first, last) {
      const after = (seconds) => this.clock.findIndex((one) => one >= seconds), day = (text) => Date.parse(text) / 1000;
      const from = Math.max(after(day(first)), 0), end = after(day(last) + 86400), to = end < 0 ? this.rows : end;
      this.showRows(from, to, from);
    }

    // Bars up to another, with a tenth of them on either side, and what is told of one of them.
    showRows(from, to, row) {
      const room = Math.max(Math.ceil((to - from) / 10), 2);
      this.show(from - room, to + room);
      this.cross(row);
    }

    cross(row) {
      this.bar = Math.min(Math.max(row, 0), this.rows - 1);
      const set = () => {
        if (this.bar === null) return;
        const { level } = this.view, place = this.bar >> level, name = `close.${this.series}`;
        const price = this.levels[name].at(level, "last")[place], known = Number.isFinite(price);
        const [series, value] = known ? [this.prices, price] : [this.equity, this.levels.equity.at(level, "last")[place]];
        this.chart.setCrosshairPosition(value, this.times[place * 2 ** level], series);
        this.describe(this.bar);
      };
      set();
      requestAnimationFrame(() => requestAnimationFrame(set));
    }

    leave() {
      this.bar = null;
      this.chart.clearCrosshairPosition();
      this.describe(null);
    }

    press(event) {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const { from, to } = this.range, tenth = (to - from) / 10, size = 2 ** this.view.level;
      const by = (step) => {
        const row = this.bar === null ? (step > 0 ? Math.ceil(from) : Math.floor(to) - 1) : this.bar + step * size;
        const bar = Math.min(Math.max(row, 0), this.rows - 1);
        if (bar < from || bar + 1 > to) this.show(from + bar - (bar < from ? from : to - 1), to + bar - (bar < from ? from : to - 1));
        this.cross(bar);
        this.spoken.textContent = this.barText(bar);
      };
      const acts = {
        ArrowLeft: () => (event.shiftKey ? this.show(from - tenth, to - tenth) : by(-1)),
        ArrowRight: () => (event.shiftKey ? this.show(from + tenth, to + tenth) : by(1)),
        ArrowUp: () => this.zoom(0.8), ArrowDown: () => this.zoom(1.25),
        "+": () => this.zoom(0.8), "=": () => this.zoom(0.8), "-": () => this.zoom(1.25),
        Home: () => this.reset(), 0: () => this.reset(), End: () => this.show(this.rows - (to - from), this.rows),
        n: () => this.step(1), p: () => this.step(-1), l: () => this.setLog(!this.logarithmic),
        Escape: () => (this.select(false), this.leave()),
      };
      const act = acts[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (!act) return;
      event.preventDefault();
      act();
    }

    // --- what is told of a bar

    hover(point) {
      if (point.sourceEvent === undefined) return;
      this.isOver = point.point !== undefined;
      if (point.logical === undefined || point.point === undefined) return this.describe(this.bar);
      const place = Math.min(Math.max(Math.round(point.logical) + this.view.start, 0), this.view.count - 1);
      this.describe(place * 2 ** this.view.level);
    }

    describe(bar) {
      if (!this.boxes || !this.view) return;
      const { level } = this.view, row = bar ?? this.lastInView(), place = row >> level;
      this.boxes.forEach((box, pane) => {
        const values = box.querySelector(".values");
        values.replaceChildren(
          ...this.legends.filter((one) => one.pane === pane).map(({ levels, label, text, choice, colour }) => {
            const item = element("span", {}, ...(colour ? [element("i", { style: `background:${colour}` })] : []), label ? `${label} ` : "");
            item.append(element("em", {}, text(levels.at(level, choice)[place])));
            return item;
          }),
        );
      });
      this.told.replaceChildren(element("b", {}, this.spanText(row, level)), ...[...this.events(row, level), ...this.held(row, level, bar !== null && bar === this.bar)].map((text) => element("span", {}, text)));
    }

    // A label of the time axis: a day with its month, and a time of day only where days are far apart; null for the rest.
    tickText(time, kind) {
      const { from, to } = this.range, within = (row) => this.clock[Math.min(Math.max(Math.floor(row), 0), this.rows - 1)];
      if (kind < library.TickMarkType.DayOfMonth) return null;
      if (kind > library.TickMarkType.DayOfMonth && within(to - 1) - within(from) < DAYS_APART * 86400) return null;
      return new Date(1000 * time).toLocaleString("en-US", { month: "short", day: "numeric", timeZone: "UTC" });
    }

    lastInView() {
      return Math.min(Math.max(Math.ceil(this.range.to) - 1, 0), this.rows - 1);
    }

    clockText(seconds) {
      const text = new Date(1000 * seconds).toISOString();
      return this.about.daily ? text.slice(0, 10) : `${text.slice(0, 10)} ${text.slice(11, 19).replace(/:00$/, "")}`;
    }

    rowText(row) {
      return this.clockText(this.clock[row]);
    }

    spanText(row, level) {
      const size = 2 ** level, first = row - (row % size), last = Math.min(first + size, this.rows) - 1;
      const zone = this.about.daily ? "" : ` (bar's end, ${this.about.zone})`;
      if (first === last) return this.rowText(first) + zone;
      return `${this.rowText(first)} to ${this.rowText(last)}${zone}, ${last - first + 1} bars as one`;
    }

    // What is held of each series at the end of a bar, where there are several.
    held(row, level, all) {
      if (this.about.series.length < 2) return [];
      const size = 2 ** level, last = Math.min(row - (row % size) + size, this.rows) - 1;
      const texts = this.about.series.flatMap(({ name }, place) => {
        const position = this.columns[`position.${place}`][last];
        return position ? [`${name} ${plain(position)}`] : [];
      });
      if (!texts.length) return ["Held: nothing"];
      const more = all ? 0 : Math.max(texts.length - HELD, 0);
      return [`Held: ${texts.slice(0, texts.length - more).join(", ")}${more ? ` and ${more} more` : ""}`];
    }

    events(row, level) {
      const size = 2 ** level, first = row - (row % size), last = Math.min(first + size, this.rows) - 1;
      const open = this.trades.filter((trade) => trade.series === this.series && trade.entry <= last && trade.exit >= first);
      const chosen = open.filter(({ place }) => place === this.selected);
      const trades = [...chosen, ...open.filter(({ place }) => place !== this.selected)].map((trade) => this.tradeText(trade));
      const orders = [];
      for (let one = first; one <= last; one++) for (const place of this.orders.get(one) ?? []) if (this.columns["order.series"][place] === this.series) orders.push(place);
      const texts = [...trades.slice(0, LISTED), ...orders.slice(0, LISTED).map((place) => this.orderText(place))];
      const more = Math.max(trades.length - LISTED, 0) + Math.max(orders.length - LISTED, 0);
      return more ? [...texts, `and ${more.toLocaleString("en-US")} more trades and orders`] : texts;
    }

    tradeText(trade) {
      return (
        `Trade ${trade.place + 1}: ${trade.size > 0 ? "long" : "short"} ${plain(Math.abs(trade.size))} ` +
        `${this.about.series[trade.series]?.name ?? ""}, in ${this.rowText(trade.entry)} at ${price(trade.entryPrice)}, ` +
        `out ${this.rowText(trade.exit)} at ${price(trade.exitPrice)} after ${plain(trade.bars)} ${trade.bars === 1 ? "bar" : "bars"}, ` +
        `net ${signed(trade.net)} (${percent(trade.part)}), costs ${number(trade.costs, 2)}` +
        (trade.dividends ? `, dividends ${signed(trade.dividends)}` : "")
      );
    }

    orderText(place) {
      const of = (name) => this.columns[`order.${name}`][place];
      const kind = this.about.kinds[of("kind")] ?? "", status = this.about.statuses[of("status")] ?? "";
      const filled = of("filled") ? ` ${plain(Math.abs(of("filled")))} at ${price(of("price"))}, costs ${number(of("costs"), 2)}` : "";
      return `Order ${of("ref")}: ${of("size") > 0 ? "buy" : "sell"} ${plain(Math.abs(of("size")))} ${kind}, submitted ${this.rowText(of("created"))}, ${status}${filled}`;
    }

    barText(row) {
      const texts = this.legends.map(({ pane, levels, label, text, choice }) => `${this.titles[pane]} ${label} ${text(levels.at(0, choice)[row])}`);
      return [this.spanText(row, 0), ...texts, ...this.events(row, 0), ...this.held(row, 0, true)].join(". ");
    }

    // --- a picture

    picture() {
      const shot = this.chart.takeScreenshot(true, true), scale = shot.width / this.canvas.clientWidth;
      const head = 26 * scale, made = element("canvas", { width: shot.width, height: shot.height + head });
      const pen = made.getContext("2d");
      pen.fillStyle = this.colour("page");
      pen.fillRect(0, 0, made.width, made.height);
      pen.drawImage(shot, 0, head);
      pen.fillStyle = this.colour("text");
      pen.textBaseline = "top";
      const family = getComputedStyle(this.place).fontFamily;
      pen.font = `600 ${14 * scale}px ${family}`;
      const { from, to } = this.range, within = (row) => Math.min(Math.max(row, 0), this.rows - 1);
      pen.fillText(`${this.about.name}, ${this.rowText(within(Math.ceil(from)))} to ${this.rowText(within(Math.floor(to) - 1))}`, 6 * scale, 6 * scale);
      pen.font = `${12 * scale}px ${family}`;
      const top = this.canvas.getBoundingClientRect().top;
      for (const box of this.boxes) {
        const text = [box.firstChild.textContent, ...[...box.querySelectorAll(".values > span")].map((one) => one.textContent)].filter(Boolean).join("   ");
        pen.fillText(text, 6 * scale, head + scale * (box.getBoundingClientRect().top - top));
      }
      return made;
    }

    save() {
      this.picture().toBlob((blob) => {
        const link = element("a", { href: URL.createObjectURL(blob), download: `${this.about.name} ${this.about.series[this.series].name}.png`.replace(/[^\w.-]+/g, "-") });
        link.click();
        setTimeout(() => URL.revokeObjectURL(link.href), 1000);
      });
    }
  }

  // Entries and exits on the prices, each trade's joined by a line: a whole one in the colour of a gain, dashes for a loss.
  class Marks {
    constructor(owner, colours) {
      this.owner = owner;
      this.colours = colours;
      this.views = [{ zOrder: () => "top", renderer: () => ({ draw: (target) => target.useBitmapCoordinateSpace((space) => this.draw(space)) }) }];
    }

    paneViews() {
      return this.views;
    }

    draw({ context: pen, horizontalPixelRatio: across, verticalPixelRatio: down }) {
      const { owner } = this, scale = owner.chart.timeScale();
      if (!owner.view) return;
      const origin = scale.logicalToCoordinate(0), step = scale.logicalToCoordinate(1) - origin, size = 2 ** owner.view.level;
      const x = (row) => across * (origin + step * ((row + 0.5) / size - 0.5 - owner.view.start));
      const y = (price) => down * owner.prices.priceToCoordinate(price);
      const { from, to } = owner.range;
      const seen = owner.trades.filter((trade) => trade.series === owner.series && trade.exit >= from && trade.entry <= to);
      const join = (trades, width) => {
        for (const won of [true, false]) {
          pen.strokeStyle = won ? this.colours.gain : this.colours.loss;
          pen.lineWidth = width * down;
          pen.setLineDash(won || trades.length > DASHED ? [] : [5 * down, 3 * down]);
          pen.beginPath();
          for (const trade of trades) {
            if (trade.net > 0 !== won) continue;
            pen.moveTo(x(trade.entry), y(trade.entryPrice));
            pen.lineTo(x(trade.exit), y(trade.exitPrice));
          }
          pen.stroke();
        }
        pen.setLineDash([]);
      };
      join(seen, 1.5);
      const selected = seen.filter(({ place }) => place === owner.selected);
      join(selected, 3);
      for (const trade of MARKED * seen.length > scale.width() ? selected : seen) {
        const large = (trade.place === owner.selected ? 7 : 5) * down, up = trade.size > 0 ? 1 : -1;
        this.mark(pen, x(trade.entry), y(trade.entryPrice), large, up, true);
        this.mark(pen, x(trade.exit), y(trade.exitPrice), large, -up, false);
      }
    }

    mark(pen, x, y, large, up, full) {
      pen.beginPath();
      pen.moveTo(x, y);
      pen.lineTo(x - large, y + up * 1.7 * large);
      pen.lineTo(x + large, y + up * 1.7 * large);
      pen.closePath();
      pen.fillStyle = full ? this.colours.ink : this.colours.page;
      pen.strokeStyle = this.colours.ink;
      pen.lineWidth = 1.2 * (large / 5);
      pen.fill();
      pen.stroke();
    }
  }

  const valued = (time, value) => (Number.isNaN(value) ? { time } : { time, value });

  // The library joins what lies on both sides of a gap: that stretch gets a colour that is not seen.
  function broken(items) {
    for (let place = 1; place + 1 < items.length; place++)
      if (items[place].value === undefined && items[place - 1].value !== undefined) items[place - 1].color = "transparent";
    return items;
  }

  const faint = (colour, alpha = "4d") => (/^#[0-9a-f]{6}$/i.test(colour) ? colour + alpha : colour);

  function shortMoney(value) {
    const size = Math.abs(value);
    const [unit, word] = [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e4, "k"]].find(([one]) => size >= one) ?? [1, ""];
    const scaled = value / (unit === 1e4 ? 1e3 : unit);
    return `${fourDigits(scaled)}${word}`;
  }

  async function start(place) {
    const about = JSON.parse(place.querySelector(".about").textContent);
    const columns = await unpack(about, place.querySelector(".columns").textContent);
    place.hidden = false;
    place.chart = new Chart(place, about, columns);
    document.documentElement.classList.add("charted");
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => place.chart.build());
    for (const row of document.querySelectorAll("tr[data-trade]"))
      lead(row, ".entry", place, "Show this trade on the chart", (chart) => chart.goTo(Number(row.dataset.trade)));
    for (const row of document.querySelectorAll("tr[data-from]"))
      lead(row, ".entry", place, "Show this drawdown on the chart", (chart) => chart.showDates(row.dataset.from, row.dataset.to));
    for (const row of document.querySelectorAll("tr[data-month]")) {
      const rows = row.dataset.month.split(",").map((one) => Math.floor(one / about.step));
      lead(row, ".trough", place, "Show the month of this trough on the chart, and what was held", (chart) => chart.showRows(...rows));
    }
    place.dispatchEvent(new Event("ready"));
  }

  // A row of a table leads to what it is about on the chart, or a cell of it to something nearer.
  function lead(row, name, place, title, act) {
    const cell = row.querySelector(name), target = name === ".entry" ? row : cell;
    cell.append(element("button", { type: "button", title }, ...cell.childNodes));
    row.classList.add("leads");
    target.addEventListener("click", (event) => {
      event.stopPropagation();
      act(place.chart);
      place.scrollIntoView({ block: "start" });
      place.chart.canvas.focus({ preventScroll: true });
    });
  }

  if (library && window.DecompressionStream)
    for (const place of document.querySelectorAll(".chart[hidden]")) start(place);
})();
