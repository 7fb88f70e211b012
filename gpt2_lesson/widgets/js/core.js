// What all figures share in a page: nodes, themes, matrices. No dependency.
// A text from outside only ever becomes a text node; nothing here makes HTML of it.

import { colourIndex, inkOn } from "./numbers/colours.js";
import { tokenFace, tokenName } from "./numbers/text.js";

// ---------------------------------------------------------------- nodes

const SVG = "http://www.w3.org/2000/svg";
const SVG_TAGS = new Set(["svg", "g", "line", "path", "rect", "circle", "text",
  "polyline", "polygon", "marker", "defs", "title"]);
// JupyterLab takes keys pressed in an output for its own unless the very node that has
// the focus says no.
const FOCUSABLE = new Set(["button", "select", "input", "canvas", "summary"]);

/** Return a new node: el("button", {onclick, "aria-pressed": "true"}, "text", child). */
export function el(tag, props = {}, ...children) {
  const node = SVG_TAGS.has(tag) ? document.createElementNS(SVG, tag)
    : document.createElement(tag);
  if (FOCUSABLE.has(tag) || "tabindex" in props) {
    node.setAttribute("data-lm-suppress-shortcuts", "true");
  }
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value") node.value = value;
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child != null));
  return node;
}

/** Return a labelled <select>; onchange gets the chosen value (a string). */
export function choice(label, options, value, onchange) {
  const select = el("select", { onchange: () => onchange(select.value) },
    options.map(([key, text]) => el("option", { value: key }, text)));
  select.value = value;
  return el("label", {}, label, select); // its native .control is the select
}

/** Return a labelled slider whose number is written beside it; oninput gets a number. */
export function slider(label, { min, max, step, value, show = (x) => String(x) }, oninput) {
  const out = el("output", { class: "mono" }, show(value));
  const input = el("input", {
    type: "range", min, max, step, value,
    oninput: () => { set(Number(input.value)); oninput(Number(input.value)); },
  });
  input.value = value; // after min, max and step, which would cut it
  function set(x) {
    input.value = x;
    out.textContent = show(x);
    input.setAttribute("aria-valuetext", show(x));
  }
  set(value);
  const node = el("label", {}, label, input, out);
  return Object.assign(node, { set });
}

/** Return a button that stays pressed or not; onchange gets the new state. */
export function toggle(text, pressed, onchange) {
  const button = el("button", {
    type: "button", "aria-pressed": String(pressed),
    onclick: () => { set(!button.pressed); onchange(button.pressed); },
  }, text);
  function set(value) {
    button.pressed = value;
    button.setAttribute("aria-pressed", String(value));
  }
  set(pressed);
  return Object.assign(button, { set });
}

/** Return a line that screen readers speak when its text changes. */
export function speaker() {
  const node = el("p", { "aria-live": "polite", class: "said" });
  return Object.assign(node, { say: (text) => { node.textContent = text; } });
}

// ---------------------------------------------------------------- colours

/** Return a colour of style.css as a canvas takes it: themeColour(root, "--line"). */
export function themeColour(root, name) {
  const probe = root.appendChild(el("i", { style: `color: var(${name})` }));
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

const labTheme = () => globalThis.document?.body.dataset.jpThemeLight;

/** Return whether the page is dark: JupyterLab's theme, elsewhere what the system asks. */
export function isDark() {
  if (labTheme()) return labTheme() === "false";
  return typeof matchMedia === "function" && matchMedia("(prefers-color-scheme: dark)").matches;
}

// ---------------------------------------------------------------- matrices

/** Paint rows x columns cells of `cell` CSS pixels; value(row, column) in 0..1 or null.
 *
 * One image pixel for each cell, enlarged without smoothing: reading the canvas at the
 * middle of a cell gives exactly the table's colour.
 */
export function paintMatrix(canvas, rows, columns, cell, value, table) {
  const small = new OffscreenCanvas(columns, rows);
  const context = small.getContext("2d");
  const image = context.createImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer); // 4 bytes at once
  const colours = new Uint32Array(table.buffer);
  for (let t = 0; t < rows; t++) {
    for (let s = 0; s < columns; s++) {
      const share = value(t, s);
      if (share == null) continue; // transparent: nothing there
      pixels[t * columns + s] = colours[colourIndex(share)];
    }
  }
  context.putImageData(image, 0, 0);
  const many = rows * columns > 2 ** 18; // then the browser enlarges what is seen of it
  const scale = many ? 1 / cell : globalThis.devicePixelRatio || 1;
  canvas.style.imageRendering = many ? "pixelated" : "";
  canvas.width = Math.round(columns * cell * scale);
  canvas.height = Math.round(rows * cell * scale);
  canvas.style.width = `${columns * cell}px`;
  canvas.style.height = `${rows * cell}px`;
  const out = canvas.getContext("2d");
  out.imageSmoothingEnabled = false;
  out.drawImage(small, 0, 0, canvas.width, canvas.height);
}

/** Return {row, column} of the cell under a pointer event, or null outside. */
export function cellUnder(event, canvas, rows, columns) {
  const box = canvas.getBoundingClientRect();
  const row = Math.floor(((event.clientY - box.top) / box.height) * rows);
  const column = Math.floor(((event.clientX - box.left) / box.width) * columns);
  return row >= 0 && row < rows && column >= 0 && column < columns ? { row, column } : null;
}

/** Call `paint` now, and again whenever the page turns light or dark; return what ends it. */
export function onTheme(paint) {
  paint();
  if (typeof matchMedia !== "function") return () => {};
  const media = matchMedia("(prefers-color-scheme: dark)");
  media.addEventListener("change", paint);
  const lab = new MutationObserver(paint);
  if (labTheme()) lab.observe(document.body, { attributeFilter: ["data-jp-theme-light"] });
  return () => { media.removeEventListener("change", paint); lab.disconnect(); };
}

/** Return a <table> of head names and rows of cells, as a folded "table view". */
export function tableView(summary, head, rows) {
  const body = () => el("table", {},
    el("thead", {}, el("tr", {}, head.map((text) => el("th", { scope: "col" }, text)))),
    el("tbody", {}, rows().map(([name, ...cells]) => el("tr", {},
      el("th", { scope: "row" }, name), cells.map((text) => el("td", {}, text))))));
  const holder = el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": summary });
  const node = el("details", { ontoggle: () => refresh() }, el("summary", {}, summary), holder);
  function refresh() { if (node.open) holder.replaceChildren(body()); }
  return Object.assign(node, { refresh });
}

/** Return a titled map of rows x columns cells, read by mouse, touch and arrow keys.
 *
 * onread(row, column) is called for the cell that the reader goes to. `paint` draws:
 * share(row, column) in 0..1, null for nothing there, NaN for a hatched cell;
 * write(row, column), a text for the cell; note(row), a text at the row's end.
 */
export function cellMap({ title, rows, columns, rowNames, columnNames, axes, onread }) {
  const at = { row: -1, column: -1 };
  const canvas = el("canvas", { tabindex: "0", role: "application", "aria-label":
      `${title}: map of ${rows} rows and ${columns} columns; the arrow keys read a cell`,
    onpointermove: under, onpointerdown: under, onkeydown: step });
  const frame = el("div", { class: "cell-mark", "aria-hidden": "true" });
  const left = el("div", { class: "cell-names before", "aria-hidden": "true" });
  const right = el("div", { class: "cell-names after mono", "aria-hidden": "true" });
  const below = el("div", { class: "cell-names under", "aria-hidden": "true" });
  const node = el("div", { class: "cell-map" }, el("h2", {}, title), el("div", { class: "cell-grid" },
    left, el("div", { class: "cell-holder" }, canvas, frame), right, below),
  axes ? el("p", { class: "quiet" }, axes) : null);
  function under(event) {
    const cell = cellUnder(event, canvas, rows, columns);
    if (cell && (cell.row !== at.row || cell.column !== at.column)) onread(cell.row, cell.column);
  }
  function step(event) {
    const moved = stepCell(at, event.key, rows, columns);
    if (!moved) return;
    event.preventDefault();
    onread(moved.row, moved.column);
  }
  function mark(row, column) {
    Object.assign(at, { row, column });
    const cell = parseFloat(canvas.style.width) / columns;
    Object.assign(frame.style, { left: `${column * cell}px`, top: `${row * cell}px`,
      width: `${cell}px`, height: `${cell}px`, display: row < 0 ? "none" : "block" });
    chooseName(left, row);
    chooseName(below, column);
  }
  function paint({ cell, share, table, write, note }) {
    paintMatrix(canvas, rows, columns, cell, (t, s) => (Number.isNaN(share(t, s)) ? null : share(t, s)), table);
    const pen = canvas.getContext("2d");
    const scale = canvas.width / (columns * cell);
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    const ink = getComputedStyle(node).color;
    for (let t = 0; t < rows; t++) {
      for (let s = 0; s < columns; s++) {
        const value = share(t, s);
        if (Number.isNaN(value)) hatch(pen, s * cell, t * cell, cell, ink);
        const colour = value == null || Number.isNaN(value) ? ink : inkOn(table, value);
        if (write) writeCell(pen, write(t, s), (s + 0.5) * cell, (t + 0.5) * cell, colour);
      }
    }
    nameCells(left, rowNames, rows, cell, false);
    nameCells(below, columnNames, columns, cell, true);
    nameCells(right, note && cell >= 12 ? Array.from({ length: rows }, (_, t) => note(t)) : null, rows, cell, false);
    mark(at.row, at.column);
  }
  return { node, canvas, paint, mark, at };
}

/** Return the cell that a key leads to from `at`, or null for another key. */
export function stepCell(at, key, rows, columns) {
  const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1],
    Home: [0, -columns], End: [0, columns] }[key];
  if (!move) return null;
  const within = (x, size) => Math.max(0, Math.min(size - 1, x));
  if (at.row < 0) return { row: 0, column: 0 };
  return { row: within(at.row + move[0], rows), column: within(at.column + move[1], columns) };
}

function hatch(pen, x, y, size, ink) {
  pen.save();
  pen.beginPath();
  pen.rect(x, y, size, size);
  pen.clip();
  pen.strokeStyle = ink;
  pen.globalAlpha = 0.55;
  pen.lineWidth = 1;
  pen.beginPath();
  for (let d = 0; d < 2 * size; d += 5) {
    pen.moveTo(x + d, y);
    pen.lineTo(x + d - size, y + size);
  }
  pen.stroke();
  pen.restore();
}

function writeCell(pen, text, x, y, ink) {
  pen.font = "11px ui-monospace, 'DejaVu Sans Mono', monospace";
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.fillStyle = ink;
  pen.fillText(text, x, y);
}

/** Return how many pixels names beside a map take. */
export const namesRoom = (names) => Math.min(76, 12 + 8 * Math.max(...names.map((name) => name.length)));

/** Write names beside (or below, across) `count` cells; null: none.
 *
 * Where cells are too small for them only the chosen one's is seen (chooseName).
 */
export function nameCells(holder, names, count, cell, across) {
  holder.hidden = !names;
  if (!names) return;
  const turned = across && names.some((name) => [...name].length > 1 && name.length * 8 > cell);
  const tiny = cell < (names.every((name) => [...name].length === 1) ? 8 : 12);
  holder.classList.toggle("turned", turned);
  holder.classList.toggle("tiny", tiny);
  holder.style.fontSize = tiny ? "" : `${Math.min(12, cell + 1)}px`;
  holder.replaceChildren(...names.slice(0, count).map((name) => {
    const span = el("bdi", {}, name);
    span.style[across ? "width" : "height"] = `${cell}px`;
    span.style.lineHeight = turned || !across ? `${cell}px` : "1.4";
    return span;
  }));
}

/** Mark the name of one cell as the chosen one. */
export function chooseName(holder, at) {
  holder.querySelector(".chosen")?.classList.remove("chosen");
  holder.children[at]?.classList.add("chosen");
}

/** Return {node, buttons, mark}: a text as buttons, of which `mark` chooses one.
 *
 * One of them is in the tab order, the arrows walk; go(i) is called for the next one.
 */
export function tokenStrip(tokens, label, go) {
  const buttons = tokens.map((token, i) => el("button", {
    type: "button", class: "token", tabindex: "-1", "aria-pressed": "false",
    "aria-label": `position ${i}: ${tokenName(token)}`, onclick: () => go(i),
  }, el("bdi", {}, tokenFace(token))));
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1, Home: -Infinity, End: Infinity };
  const node = el("div", {
    class: "tokens strip", role: "group", "aria-label": label,
    onkeydown: (event) => {
      if (!(event.key in step)) return;
      event.preventDefault();
      const from = buttons.indexOf(event.target);
      const to = Math.max(0, Math.min(buttons.length - 1, from + step[event.key]));
      go(to);
      buttons[to].focus();
    },
  }, buttons);
  function mark(position) {
    buttons.forEach((button, i) => {
      button.setAttribute("aria-pressed", String(i === position));
      button.tabIndex = i === position ? 0 : -1;
    });
    const { offsetTop: top, offsetHeight: high } = buttons[position];
    const above = top - node.offsetTop - 3; // its border and padding: whole rows are seen
    if (above < node.scrollTop || above + high > node.scrollTop + node.clientHeight) node.scrollTop = above - high;
  }
  return { node, buttons, mark };
}
