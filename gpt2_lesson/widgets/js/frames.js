// The same picture at several settings: chosen by buttons, or scrubbed by a slider.

import { cellMap, el, isDark, namesRoom, onTheme, slider, speaker, tableView, toggle, tokenStrip } from "./core.js";
import { colourTable, cssColour, inkOn } from "./numbers/colours.js";
import { curveText, meterText, placeOf, rowSum, spanOf, stackedMaps, valueAt } from "./numbers/frames.js";
import { unpackFloats, unpackTriangles } from "./numbers/packing.js";
import { mostRead } from "./numbers/probabilities.js";
import { number, shortCell, tokenFace, tokenName } from "./numbers/text.js";

const PAUSE = 600; // milliseconds a checkpoint stays while playing

/** Fill `root` with the figure that `state.kind` names. */
export async function mount(root, state) {
  await (state.kind === "scrub" ? mountScrub : mountChoice)(root, state);
  root.dataset.ready = "";
}

// ---------------------------------------------------------------- settings to choose

const quoted = (token) => `\u201c${tokenName(token)}\u201d`;

/** Return the side of a cell: what fits beside its names into `room` pixels. */
function cellSide(room, size, most) {
  const side = Math.min(most, room / size);
  return side >= 4 ? Math.floor(side) : side;
}

async function mountChoice(root, state) {
  const { tokens, settings, titles, fractions, meter } = state;
  const size = tokens.length;
  const get = stackedMaps(await unpackFloats(state.maps), titles.length, size);
  const spans = titles.map((_, m) => spanOf(get, settings.length, m, size));
  const now = { setting: 0, map: 0, row: -1, column: -1 };
  const said = speaker();
  const about = el("p", { class: "frame-number" });
  const gauge = meter ? meterBar(meter[0], Math.max(...meter[1].map((x) => x ?? 0))) : null;
  const maps = titles.map((title, m) => cellMap({
    title, rows: size, columns: size, axes: state.axes[m],
    rowNames: tokens.map(tokenFace), columnNames: tokens.map(tokenFace),
    onread: (row, column) => { Object.assign(now, { map: m, row, column }); read(); },
  }));
  const tables = titles.map((title, m) => tableView(`Table: ${title}`,
    ["token", ...tokens.map(tokenName), ...(fractions[m] ? ["row sum"] : [])],
    () => tokens.map((token, t) => [tokenName(token), ...tokens.map((_, s) =>
      number(get(now.setting, m, t, s), 4)), ...(fractions[m] ? [number(sumAt(m, t), 4)] : [])])));
  const legend = radioGroup("Setting", settings, (k) => { now.setting = k; show(); });
  const row = el("div", { class: "columns" }, maps.map((map) => map.node));
  root.replaceChildren(legend, ...(gauge ? [gauge.node] : []), about, row, said, ...tables);
  onTheme(show);
  addEventListener("resize", paint);

  function sumAt(m, t) { return rowSum((s) => get(now.setting, m, t, s), size); }
  function paint() {
    const wide = root.clientWidth - 16;
    const beside = wide > 620 ? titles.length : 1;
    const side = cellSide(Math.min(wide / beside - 140, 300), size, 40);
    maps.forEach((map, m) => map.paint({
      cell: side, share: (t, s) => placeOf(get(now.setting, m, t, s), fractions[m], spans[m]),
      table: colourTable(spans[m].low < 0 && !fractions[m] ? "signed" : "shares", isDark()),
      write: side >= 30 ? (t, s) => shortCell(get(now.setting, m, t, s)) : null,
      note: fractions[m] ? (t) => `\u03a3 ${number(sumAt(m, t))}`.replace("not a number", "nan") : null,
    }));
    mark();
  }
  function mark() {
    maps.forEach((map) => map.mark(now.row, now.column));
  }
  function show() {
    paint();
    about.textContent = state.numbers[now.setting];
    about.hidden = !about.textContent;
    gauge?.set(meter[1][now.setting]);
    tables.forEach((table) => table.refresh());
    said.say(sentence());
  }
  function read() { mark(); said.say(sentence()); }
  function sentence() {
    const missing = titles.map((title, m) => missingText(title, m)).filter(Boolean).join(" ");
    if (now.row < 0) {
      const sums = fractions.includes(true) ? ` \u03a3 is the sum of a row: 1 if it holds attention weights.` : "";
      return `${settings[now.setting]}. ${missing || "Point at a cell, or use the arrow keys, to read it."}${sums}`;
    }
    const cells = titles.map((title, m) => {
      const x = get(now.setting, m, now.row, now.column);
      return `${title} ${Number.isFinite(x) ? number(x, 4) : number(x)}`;
    });
    const m = fractions.indexOf(true);
    const sum = m < 0 ? "" : ` The row of ${titles[m]} adds up to ${number(sumAt(m, now.row))}.`;
    return `${settings[now.setting]}: row ${quoted(tokens[now.row])}, column `
      + `${quoted(tokens[now.column])}: ${cells.join(", ")}.${sum} ${missing}`;
  }
  function missingText(title, m) {
    const rows = tokens.map((_, t) => t).filter((t) =>
      tokens.some((_, s) => Number.isNaN(get(now.setting, m, t, s))));
    if (!rows.length) return "";
    const names = rows.length > 4 ? `${rows.length} rows` : rows.map((t) => quoted(tokens[t])).join(", ");
    return `Hatched cells are not a number: ${title}, ${rows.length > 4 ? names : `row ${names}`}.`;
  }
}

/** Return native radio buttons that look like buttons; onchange gets the index. */
function radioGroup(label, names, onchange) {
  const group = `frame-${performance.now()}`; // of this figure alone
  const inputs = names.map((_, i) => el("input", {
    type: "radio", name: group, class: "frame-radio", checked: i === 0, onchange: () => onchange(i),
  }));
  return el("fieldset", { class: "frame-choice" }, el("legend", {}, label),
    names.map((name, i) => el("label", {}, inputs[i], name)));
}

/** Return a bar from 0 (none) to the largest value of all settings. */
function meterBar(name, top) {
  const fill = el("div", { class: "frame-fill" });
  const words = el("span", { class: "mono" });
  const bar = el("div", { class: "frame-meter", role: "meter", "aria-label": name,
    "aria-valuemin": "0", "aria-valuemax": String(top || 1) }, fill);
  const node = el("div", { class: "controls" }, el("strong", {}, name), bar, words);
  function set(value) {
    const share = value == null ? 0 : value / (top || 1);
    fill.style.width = value ? `max(3px, ${100 * share}%)` : "0";
    bar.setAttribute("aria-valuenow", String(value ?? 0));
    bar.setAttribute("aria-valuetext", meterText(value));
    words.textContent = meterText(value);
    words.className = value === 0 ? "mono frame-good" : "mono mark";
  }
  return { node, set };
}

// ---------------------------------------------------------------- checkpoints to scrub

async function mountScrub(root, state) {
  const { tokens, steps } = state;
  const size = tokens.length;
  const maps = await unpackTriangles(state.maps, size);
  const now = { index: steps.length - 1, row: size - 1, column: 0 };
  const most = () => mostRead(Array.from({ length: now.row + 1 }, (_, s) => maps.get(now.index, now.row, s)));
  now.column = most().key;
  const said = speaker();
  said.classList.add("frame-said");
  const text = tokenStrip(tokens, "the text: choose a query", (row) => {
    now.row = row;
    now.column = most().key;
    show();
  });
  const map = cellMap({ title: "One head's attention", rows: size, columns: size,
    axes: "rows: query, this token attends; columns: key, to this token. Each row adds up to 1.",
    rowNames: tokens.map(tokenFace), columnNames: tokens.map(tokenFace),
    onread: (row, column) => { Object.assign(now, { row, column }); show(); } });
  const curves = state.curves.map((curve) => curvePanel(curve, steps));
  const cell = curvePanel({ name: "marked cell", unit: "weight", xs: steps, ys: steps.map(() => 0), low: 0, high: 1 }, steps);
  const control = slider("checkpoint", { min: 0, max: steps.length - 1, step: 1, value: now.index,
    show: (i) => `step ${steps[i]}` }, (i) => { stop(); now.index = i; show(); });
  control.classList.add("frame-slider");
  const still = typeof matchMedia === "function" && matchMedia("(prefers-reduced-motion: reduce)").matches;
  const play = still ? el("button", { type: "button", onclick: next }, "next")
    : toggle("play", false, (on) => (on ? start() : stop()));
  const table = tableView("Table: all checkpoints",
    ["step", ...state.curves.map((curve) => curve.name), "marked cell"],
    () => steps.map((step, i) => [String(step), ...state.curves.map((curve) =>
      curveText(curve, step)), weightText(maps.get(i, now.row, now.column))]));
  root.replaceChildren(el("div", { class: "controls" }, play, control), said, text.node,
    el("p", { class: "quiet" }, "The framed token is the query; the stronger a token’s colour, the more the query attends to it."),
    el("div", { class: "columns" }, map.node,
      el("div", { class: "frame-curves" }, curves.map((c) => c.node), cell.node)), table);
  let timer = null;
  onTheme(paint);
  addEventListener("resize", paint);
  show();

  function next() { now.index = (now.index + 1) % steps.length; control.set(now.index); show(); }
  function start() {
    if (now.index === steps.length - 1) { now.index = -1; next(); }
    timer = setInterval(() => { next(); if (now.index === steps.length - 1) stop(); }, PAUSE);
  }
  function stop() { clearInterval(timer); timer = null; play.set?.(false); }
  function paint() {
    const wide = root.clientWidth - 16;
    const room = Math.min(wide > 620 ? wide - 280 : wide, 480) - namesRoom(tokens.map(tokenFace));
    const table = colourTable("shares", isDark());
    map.paint({ cell: cellSide(room, size, 34), table,
      share: (t, s) => (s > t ? null : maps.get(now.index, t, s)) });
    map.mark(now.row, now.column);
    text.mark(now.row);
    text.buttons.forEach(({ style }, s) => {
      const weight = s > now.row ? null : maps.get(now.index, now.row, s);
      style.background = weight === null ? "" : cssColour(table, weight);
      style.color = weight === null ? "var(--quiet)" : inkOn(table, weight);
    });
  }
  function weightText(w) { return number(w, maps.exact ? 4 : 2, !maps.exact); }
  function show() {
    paint();
    const step = steps[now.index];
    curves.forEach((curve) => curve.at(step));
    cell.draw(steps.map((_, i) => maps.get(i, now.row, now.column)));
    cell.at(step);
    table.refresh();
    const { key, weight } = most();
    const told = state.curves.map((curve) => `${curve.name} ${curveText(curve, step)}`);
    const here = now.column > now.row ? "a later token, which is hidden"
      : `weight ${weightText(maps.get(now.index, now.row, now.column))}`;
    said.say(`${[`Step ${step}`, ...told].join(", ")}. Marked: ${quoted(tokens[now.row])} (position ${now.row}) to `
      + `${quoted(tokens[now.column])} (position ${now.column}), ${here}. The query attends most to `
      + `${quoted(tokens[key])} (position ${key}), ${weightText(weight)}.`);
  }
}

/** Return a small chart of one curve with a marker: {node, at(step), draw(ys)}. */
function curvePanel(curve, steps) {
  const [W, H] = [420, 96];
  const [left, right, top, bottom] = [44, 10, 8, 18];
  const first = Math.min(steps[0], curve.xs[0]);
  const last = Math.max(steps[steps.length - 1], curve.xs[curve.xs.length - 1]);
  const x = (step) => left + ((step - first) / (last - first || 1)) * (W - left - right);
  const span = { low: curve.low ?? Math.min(...curve.ys), high: curve.high ?? Math.max(...curve.ys) };
  if (span.low === span.high) span.high = span.low + 1;
  const y = (value) => H - bottom - ((value - span.low) / (span.high - span.low)) * (H - top - bottom);
  const words = el("span", { class: "mono" });
  const line = el("polyline", { class: "frame-line" });
  const rule = el("line", { class: "frame-rule", y1: top, y2: H - bottom });
  const dot = el("circle", { class: "frame-dot", r: 4.5 });
  const svg = el("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${curve.name} over the training steps` },
    el("line", { class: "frame-axis", x1: left, x2: W - right, y1: H - bottom, y2: H - bottom }),
    label(left - 6, top + 8, number(span.high), "end"), label(left - 6, H - bottom, number(span.low), "end"),
    label(left, H - 4, `step ${first}`, "start"), label(W - right, H - 4, String(last), "end"),
    line, rule, dot);
  const node = el("div", { class: "frame-curve" }, el("h2", {}, curve.name, " ",
    curve.unit ? el("span", { class: "quiet" }, `(${curve.unit}) `) : null, words), svg);
  draw(curve.ys);
  function label(px, py, text, anchor) { return el("text", { x: px, y: py, "text-anchor": anchor }, text); }
  function draw(ys) {
    curve.ys = ys;
    line.setAttribute("points", ys.map((v, i) => `${x(curve.xs[i]).toFixed(1)},${y(v).toFixed(1)}`).join(" "));
  }
  function at(step) {
    const value = valueAt(curve.xs, curve.ys, step);
    for (const end of ["x1", "x2"]) rule.setAttribute(end, x(step));
    dot.setAttribute("visibility", value ? "visible" : "hidden");
    if (value) { dot.setAttribute("cx", x(step)); dot.setAttribute("cy", y(value.y)); }
    words.textContent = value ? number(value.y, 3, !value.exact) : "not measured here";
  }
  return { node, at, draw };
}
