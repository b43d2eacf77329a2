// What the scripts of a page share: elements, numbers as texts, and the packed columns of a page.
"use strict";

const element = (name, settings = {}, ...children) => {
  const made = Object.assign(document.createElement(name), settings);
  made.append(...children);
  return made;
};

const drawn = (name, attributes = {}, ...children) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  made.append(...children);
  return made;
};

// What writes numbers as people read them; to make it takes longer than to write a number.
const writer = (options) => {
  const format = new Intl.NumberFormat("en-US", options);
  return (value) => (Number.isFinite(value) ? format.format(value).replace("-", "−") : "–");
};

// A number with so many decimals.
const number = (() => {
  const writers = [];
  return (value, digits) => (writers[digits] ??= writer({ minimumFractionDigits: digits, maximumFractionDigits: digits }))(value);
})();

// A button; what it does is in its title, and its name where its text is a sign.
const button = (text, title, act) => {
  const made = element("button", { type: "button", title }, text);
  if (!/[a-z]/i.test(text)) made.setAttribute("aria-label", title);
  made.addEventListener("click", act);
  return made;
};

const unpack = (() => {
  function floats(planes, { rows }) {
    const bytes = new Uint8Array(8 * rows);
    for (let plane = 0; plane < 8; plane++)
      for (let row = 0; row < rows; row++) bytes[8 * row + plane] = planes[plane * rows + row];
    return new Float64Array(bytes.buffer);
  }

  function decimals(planes, { rows, planes: count, digits }) {
    const values = new Float64Array(rows);
    for (let plane = 0, place = 1; plane < count; plane++, place *= 256)
      for (let row = 0; row < rows; row++) values[row] += planes[plane * rows + row] * place;
    const scale = 10 ** Math.abs(digits);
    let whole = 0;
    for (let row = 0; row < rows; row++) {
      const step = values[row];
      whole += step % 2 ? -(step + 1) / 2 : step / 2;
      values[row] = digits < 0 ? whole * scale : whole / scale;
    }
    return values;
  }

  return async (about, text) => {
    const packed = atob(text.trim());
    const bytes = new Uint8Array(packed.length);
    for (let i = 0; i < packed.length; i++) bytes[i] = packed.charCodeAt(i);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const content = new Uint8Array(await new Response(stream).arrayBuffer());
    const columns = {};
    let at = 0;
    for (const column of about.columns) {
      const missing = column.gaps ? content.subarray(at, (at += column.rows)) : null;
      const planes = content.subarray(at, (at += column.rows * column.planes));
      const values = column.digits === null ? floats(planes, column) : decimals(planes, column);
      if (missing) missing.forEach((gone, row) => gone && (values[row] = NaN));
      columns[column.name] = values;
    }
    return columns;
  };
})();
