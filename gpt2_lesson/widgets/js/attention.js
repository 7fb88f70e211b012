// The attention map: choose a query, see what it attends to, in every head.

import {
  cellUnder, choice, chooseName, el, isDark, nameCells, namesRoom, onTheme, paintMatrix, speaker, stepCell,
  tableView, themeColour, toggle,
} from "./core.js";
import {
  bestHeads, chosenRow, headRow, isNamed, namesOf, nearestName, poolMaps, readMaps, restOf, saying, scoreLimit,
  scoreText, shareText, signedAt, spoken, whichHead,
} from "./numbers/attention.js";
import { colourTable, cssColour, inkOn } from "./numbers/colours.js";
import { largestPlaces } from "./numbers/probabilities.js";
import { number, tokenFace, tokenName } from "./numbers/text.js";

const MOST_BARS = 8;
const MOST_LISTED = 4; // heads, as buttons
const MAP_SIDE = 600; // most pixels of the map; longer texts scroll in it
const MEASURES = [["weights", "weights"], ["scores", "scores"], ["value-weighted", "value-weighted"]];
const MEANINGS = {
  weights: "Weight: how much of this key’s value is in the head’s output, a weighted average.",
  scores: "Score: q·k / √D, before softmax. Weight = exp(score − total of the row).",
  "value-weighted": "Value-weighted: weight × size of the key’s value after the output projection, as a fraction of the row’s sum: a large weight on a small value adds little.",
};
const OVERS = [["one", "this head"], ["average", "average of the layer"], ["largest", "largest of the layer"]];

// ---------------------------------------------------------------- the figure

/** Fill `root` with the map of `state`; return {set(change), stop()}. */
export async function mount(root, state, hooks = {}) {
  const data = await readMaps(state);
  const view = {
    root, state, data, hooks, labels: state.labels, query: state.query, key: null,
    locked: false, stretched: false, hidden: state.predict, filter: "", guesses: [], parts: {},
    pick: { layer: Math.max(0, data.layers.indexOf(state.layer)), over: "one",
      head: Math.max(0, data.heads.indexOf(state.head)), measure: state.measure },
  };
  view.said = speaker();
  buildControls(view);
  buildTokens(view);
  buildGuess(view);
  buildMap(view);
  buildTables(view);
  buildBars(view);
  buildGrid(view);
  view.thumbs = await poolMaps(data, Math.min(view.plan.side, data.size));
  const { controls, tokens, guess, map, bars, grid, help } = view.parts;
  view.parts.answer = el("div", { class: "att-columns" }, map, bars, grid);
  root.classList.add("att");
  root.replaceChildren(controls, view.said, tokens, help, guess, view.parts.answer);
  const ends = [onTheme(() => {
    view.table = colourTable("shares", isDark());
    view.signed = colourTable("signed", isDark());
    showAll(view);
  }), onRoom(view)];
  root.dataset.ready = "";
  return { set: (change) => setFrom(view, change), stop: () => ends.forEach((end) => end()) };
}

/** Take a change from outside: layer, head, query, key, locked, measure. */
function setFrom(view, change) {
  const { data, pick } = view;
  if (data.layers.includes(change.layer)) pick.layer = data.layers.indexOf(change.layer);
  if (data.heads.includes(change.head)) pick.head = data.heads.indexOf(change.head);
  if (change.measure in MEANINGS) pick.measure = change.measure;
  if (change.query >= 0 && change.query < data.size) view.query = change.query;
  if (change.key >= 0 && change.key < data.size) view.key = change.key;
  if (change.locked !== undefined) view.locked = Boolean(change.locked);
  showAll(view);
}

/** Choose another head, measure or way; the whole figure follows. */
function repick(view, change) {
  Object.assign(view.pick, change);
  if (view.pick.measure === "scores") view.pick.over = "one"; // scores of heads do not mix
  if (view.hidden) nextGuess(view, true);
  showAll(view);
  tell(view);
}

/** Choose another query, and a key; the row follows. */
function goTo(view, query, key = null) {
  if (view.hidden) return;
  if (query === view.query && (key === null || key === view.key)) return;
  view.query = query;
  view.key = key;
  showRow(view);
  tell(view);
}

function tell({ hooks, data, pick, query, key, locked }) {
  hooks.changed?.({ layer: data.layers[pick.layer], head: data.heads[pick.head], query,
    key: key ?? 0, locked, measure: pick.measure });
}

function showAll(view) {
  showControls(view);
  view.parts.answer.hidden = view.hidden;
  view.parts.guess.hidden = !view.state.predict;
  view.parts.veil.hidden = !view.hidden;
  if (!view.hidden) {
    showMap(view);
    showGrid(view);
  }
  showRow(view);
}

function showRow(view) {
  const { data, pick, query, parts } = view;
  view.row = chosenRow(data, pick, query);
  if (view.key === null || view.key > query) [view.key] = largestPlaces(view.row, 1);
  showTokens(view);
  if (view.hidden) return;
  view.said.say(saying(data, pick, query, view.row));
  showMarks(view);
  showBars(view);
  parts.rowTable.refresh();
}

// ---------------------------------------------------------------- controls

function buildControls(view) {
  const { data, pick, parts } = view;
  const numbers = (list) => list.map((n, i) => [String(i), String(n)]);
  parts.layer = choice("layer", numbers(data.layers), String(pick.layer), (i) => repick(view, { layer: Number(i) }));
  parts.head = choice("head", numbers(data.heads), String(pick.head), (i) => repick(view, { head: Number(i), over: "one" }));
  parts.over = choice("show", OVERS, pick.over, (over) => repick(view, { over }));
  parts.measure = choice("as", MEASURES, pick.measure, (measure) => repick(view, { measure }));
  parts.meaning = el("p", { class: "quiet att-meaning" });
  parts.controls = el("div", {}, el("div", { class: "controls" },
    parts.layer, parts.head, data.heads.length > 1 ? parts.over : null, parts.measure));
  parts.help = el("p", { class: "quiet att-help" },
    "Point at a token to see what it attends to; click to hold it. Keys: ← → token, ↑ ↓ head, page up/down layer, Esc releases it.");
}

function showControls({ parts, pick, hidden, said, state: { simple } }) {
  said.hidden = hidden;
  for (const name of ["layer", "head", "over", "measure"]) parts[name].control.value = String(pick[name]);
  parts.over.control.disabled = pick.measure === "scores";
  for (const name of ["over", "measure", "help"]) parts[name].hidden = hidden;
  if (simple) for (const name of ["over", "measure", "filter", "best"]) parts[name].hidden = true;
  parts.meaning.textContent = MEANINGS[pick.measure];
}

// ---------------------------------------------------------------- tokens

function buildTokens(view) {
  const { data, parts } = view;
  parts.buttons = data.tokens.map((token, i) => el("button", {
    type: "button", tabindex: "-1", "data-place": i, "aria-pressed": "false",
    class: token.trim() === "" ? "token blank" : "token", "aria-label": `${tokenName(token)}, token ${i}`,
  }, el("bdi", {}, tokenFace(token))));
  for (const button of parts.buttons) button.plainClass = button.className;
  const place = (event) => {
    const button = event.target.closest("button");
    return button ? Number(button.dataset.place) : -1;
  };
  parts.tokens = el("div", {
    class: "tokens att-tokens", role: "group", "aria-label": "the text, token by token",
    onpointerover: (event) => { if (!view.locked && place(event) >= 0) goTo(view, place(event)); },
    onfocusin: (event) => { if (place(event) >= 0) goTo(view, place(event)); },
    onclick: (event) => { if (place(event) >= 0) press(view, place(event)); },
    onkeydown: (event) => walk(view, place(event), event),
  }, parts.buttons.flatMap((button, i) => (i && data.tokens[i] === "\n" ? [button, el("br")] : [button])));
}

/** A token was clicked: hold it, let it go, or take it as the guess. */
function press(view, place) {
  if (view.hidden) return guessed(view, place);
  view.locked = !(view.locked && view.heldAt === place);
  view.heldAt = place;
  view.query = place;
  view.key = null;
  showRow(view);
  tell(view);
}

/** Walk by keys: along the text, through the heads, through the layers. */
function walk(view, place, event) {
  const { data, pick, parts } = view;
  const within = (x, count) => Math.max(0, Math.min(count - 1, x));
  const along = { ArrowLeft: place - 1, ArrowRight: place + 1, Home: 0, End: data.size - 1 }[event.key];
  const heads = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  const layers = { PageUp: -1, PageDown: 1 }[event.key];
  if (along !== undefined) {
    view.heldAt = within(along, data.size);
    parts.buttons[view.heldAt].focus();
  } else if (heads) repick(view, { head: within(pick.head + heads, data.heads.length) });
  else if (layers) repick(view, { layer: within(pick.layer + layers, data.layers.length) });
  else if (event.key === "Escape") letGo(view);
  else return;
  event.preventDefault();
}

function letGo(view) {
  view.locked = false;
  showRow(view);
  tell(view);
}

function showTokens(view) {
  const { parts, query, key, row, hidden, locked } = view;
  const { table, at } = rampFor(view, [row]);
  parts.buttons.forEach((button, i) => {
    const plain = hidden || i > query;
    const role = i > query ? " att-future" : i === query ? " att-query" : !hidden && i === key ? " att-key" : "";
    const ground = plain ? "" : cssColour(table, at(row[i]));
    const now = `${role};${ground};${plain};${locked && i === query};${hidden}`;
    if (button.shown === now) return; // of a thousand tokens few change
    button.shown = now;
    button.tabIndex = i === query ? 0 : -1;
    button.setAttribute("aria-pressed", String(i === query && locked && !hidden));
    button.className = button.plainClass + role;
    button.disabled = hidden && i > query;
    button.style.background = ground;
    button.style.color = plain ? "" : inkOn(table, at(row[i]));
  });
  showInText(view);
}

/** Scroll the text: the query is seen, and the key too where there is room for both. */
function showInText({ parts: { tokens, buttons }, query, key, hidden }) {
  const [asked, seen] = [query, hidden ? query : key].map((i) => buttons[i].offsetTop - tokens.offsetTop);
  if (!tokens.matches(":hover") && asked + 24 - seen <= tokens.clientHeight) reveal(tokens, seen, 24);
  reveal(tokens, asked, 24);
}

/** Scroll a box, and nothing around it, until what is at `top` can be seen. */
function reveal(box, top, height) {
  if (top < box.scrollTop || top + height > box.scrollTop + box.clientHeight) {
    box.scrollTop = top - box.clientHeight / 2;
  }
}

/** Return {table, at, low, high}: the colours of numbers, and what their ends stand for. */
function rampFor({ pick, stretched, table, signed }, rows) {
  const limit = Math.max(...rows.map(scoreLimit));
  if (pick.measure === "scores") return { table: signed, at: (x) => signedAt(x, limit), low: -limit, high: limit };
  const high = stretched ? limit : 1;
  return { table, at: (x) => x / high, low: 0, high };
}

// ---------------------------------------------------------------- predict, then reveal

function buildGuess(view) {
  const { parts } = view;
  parts.asked = el("p", { class: "att-asked" });
  parts.verdict = speaker();
  parts.again = el("button", { type: "button", onclick: () => nextGuess(view) }, "Guess for another token");
  parts.veil = el("p", { class: "att-veil quiet" }, "The map appears here after your guess.");
  parts.guess = el("div", { class: "att-guess", hidden: true }, parts.asked, parts.verdict, parts.again, parts.veil);
  if (view.hidden) askGuess(view);
}

function askGuess({ data, pick, query, parts }) {
  parts.asked.textContent = `Guess first: in ${whichHead(data, pick)}, which token does ${
    spoken(data.tokens, query)} attend to most? Click it above: any token up to the framed one.`;
  parts.verdict.textContent = "";
  parts.again.hidden = true;
}

function guessed(view, place) {
  const { data, query, row, parts } = view;
  if (place > query) return;
  const rank = 1 + row.filter((w) => w > row[place]).length;
  const [best] = largestPlaces(row, 1);
  view.guesses.push(row[place] / row[best]);
  const got = shareText(row[place], data, row[place] < 0.01 ? 4 : 2);
  const most = best === place ? "No other weight is larger." : `The largest weight, ${shareText(row[best], data, 2)}, is on ${spoken(data.tokens, best)}.`;
  const mean = (100 * view.guesses.reduce((a, b) => a + b, 0)) / view.guesses.length;
  parts.verdict.textContent = `You chose ${spoken(data.tokens, place)}: its weight is ${got}, rank ${rank} of ${query + 1}. ${most} ${
    view.guesses.length > 1 ? `Score of ${view.guesses.length} guesses` : "Score"}: ${mean.toFixed(0)} of 100 (100 is the token with the largest weight).`;
  parts.asked.textContent = "";
  parts.again.hidden = false;
  Object.assign(view, { hidden: false, locked: true, heldAt: query, key: place });
  showAll(view);
  tell(view);
}

/** Hide the map and ask about another query: the next with a clear answer. */
function nextGuess(view, same = false) {
  const { data, pick } = view;
  const clear = (t) => chosenRow(data, pick, t).slice(0, t).reduce((a, b) => Math.max(a, b), 0);
  const far = Array.from({ length: data.size }, (_, i) => (view.query + 5 + i * 7) % data.size).slice(0, 24)
    .filter((t) => t > 2 && t !== view.query);
  if (!same && far.length) view.query = far.reduce((best, t) => (clear(t) > clear(best) ? t : best));
  Object.assign(pick, { measure: "weights", over: "one" });
  Object.assign(view, { hidden: true, locked: false, key: null });
  askGuess(view);
  view.said.textContent = "";
  if (!same) showAll(view);
}

// ---------------------------------------------------------------- the map of one head

function buildMap(view) {
  const { parts, data } = view;
  parts.mapTitle = el("h2");
  parts.canvas = el("canvas", { tabindex: "0", role: "application", class: "att-masked",
    onpointermove: (event) => readCell(view, event), onpointerdown: (event) => readCell(view, event),
    onclick: () => press(view, view.query), onkeydown: (event) => stepMap(view, event) });
  parts.rowMark = el("div", { class: "att-row-mark", "aria-hidden": "true" });
  parts.cellMark = el("div", { class: "att-cell-mark", "aria-hidden": "true" });
  parts.rowNames = el("div", { class: "cell-names before", "aria-hidden": "true" });
  parts.keyNames = el("div", { class: "cell-names under", "aria-hidden": "true" });
  parts.box = el("div", { class: "scroll att-box" }, el("div", { class: "cell-grid" }, parts.rowNames,
    el("div", { class: "cell-holder" }, parts.canvas, parts.rowMark, parts.cellMark), parts.keyNames));
  parts.reading = el("p", { class: "att-reading" });
  parts.legend = el("canvas", { "aria-hidden": "true", tabindex: "-1" });
  parts.stretch = toggle("stretch colours", false, (on) => { view.stretched = on; showAll(view); });
  parts.low = el("span", { class: "quiet" });
  parts.high = el("span", { class: "quiet" });
  parts.map = el("section", { class: "att-map", "aria-label": "map of one head" }, parts.mapTitle,
    el("div", { class: "att-axes" }, el("span", { class: "quiet att-down" }, "query: this token attends"), parts.box,
      el("span", { class: "quiet att-across" }, "key: to this token")),
    parts.reading, el("div", { class: "att-legend" }, parts.low, parts.legend, parts.high, parts.stretch));
  parts.cell = cellSize(view);
}

/** Return how many pixels a cell of the map gets, beside the heads or above them. */
function cellSize({ root, data }) {
  const wide = root.clientWidth || 800;
  const beside = wide >= 756;
  const side = Math.min(MAP_SIDE, wide - (beside ? 392 : 44));
  const names = namesRoom(data.tokens.map(tokenFace));
  const cell = Math.max(data.size > 130 ? 2 : 3, Math.min(40, Math.floor((side - names) / data.size)));
  const room = beside ? Math.min(names + cell * data.size, wide - 340) : side;  // of a long text
  root.style.setProperty("--map", `${Math.max(side, room)}px`);
  return cell;
}

/** Draw the map anew when there is more or less room for it; return what ends that. */
function onRoom(view) {
  const watcher = new ResizeObserver(() => {
    const cell = cellSize(view);
    if (cell === view.parts.cell) return;
    view.parts.cell = cell;
    showAll(view);
  });
  watcher.observe(view.root);
  return () => watcher.disconnect();
}

function readCell(view, event) {
  const { data, parts } = view;
  const cell = cellUnder(event, parts.canvas, data.size, data.size);
  if (!cell) return;
  const row = view.locked ? view.query : cell.row;
  view.pointed = true; // the map must not scroll away under the pointer
  if (cell.column <= row) goTo(view, row, cell.column);
  else if (!view.locked) goTo(view, row, view.key > row ? null : view.key);
  view.pointed = false;
}

function stepMap(view, event) {
  const to = stepCell({ row: view.query, column: view.key }, event.key, view.data.size, view.data.size);
  if (event.key === "Escape") letGo(view);
  else if (event.key === "Enter" || event.key === " ") press(view, view.query);
  else if (to) goTo(view, to.row, Math.min(to.column, to.row));
  else return;
  event.preventDefault();
}

function showMap(view) {
  const { data, parts, pick } = view;
  const rows = Array.from({ length: data.size }, (_, t) => chosenRow(data, pick, t));
  const { table, at, low, high } = rampFor(view, rows);
  paintMatrix(parts.canvas, data.size, data.size, parts.cell, (t, s) => (s > t ? null : at(rows[t][s])), table);
  const names = data.tokens.map(tokenFace);
  nameCells(parts.rowNames, names, data.size, parts.cell, false);
  nameCells(parts.keyNames, names, data.size, parts.cell, true);
  paintMatrix(parts.legend, 1, 64, 2, (_, i) => i / 63, table);
  parts.legend.style.height = "12px";
  parts.low.textContent = low ? number(low, 1, !data.exact) : "0";
  parts.high.textContent = high === 1 ? "1" : number(high, low ? 1 : 2, !data.exact);
  parts.stretch.hidden = pick.measure === "scores";
  const title = whichHead(data, pick);
  parts.mapTitle.textContent = `Map of ${title}: ${pick.measure}`;
  parts.canvas.setAttribute("aria-label", `map of ${title}, ${data.size} queries by ${data.size} keys; the arrow keys read a cell`);
}

function showMarks(view) {
  const { parts, query, key, data } = view;
  const { cell, box } = parts;
  const put = (node, left, width) => Object.assign(node.style, {
    left: `${left * cell}px`, top: `${query * cell}px`, width: `${width * cell}px`, height: `${cell}px` });
  put(parts.rowMark, 0, query + 1);
  put(parts.cellMark, key, 1);
  chooseName(parts.rowNames, query);
  chooseName(parts.keyNames, key);
  if (!view.pointed) {
    reveal(box, query * cell, cell);
    const left = key * cell;
    if (left < box.scrollLeft || left + cell > box.scrollLeft + box.clientWidth) box.scrollLeft = left - box.clientWidth / 2;
  }
  parts.reading.replaceChildren(
    `${spoken(data.tokens, query)} to ${key === query ? "itself" : spoken(data.tokens, key)}: `, el("b", {}, cellText(view, key)));
}

/** Return the number of the query's row at a key, as text. */
function cellText({ data, pick, query, row }, key) {
  if (pick.measure !== "scores") return shareText(row[key], data);
  const map = pick.layer * data.heads.length + pick.head;
  return scoreText(row[key], data.totals[map * data.size + query], data);
}

// ---------------------------------------------------------------- the row as bars

function buildBars({ parts }) {
  parts.barsTitle = el("h2");
  parts.barList = el("div", { class: "att-bars" });
  parts.sum = el("p", { class: "quiet" });
  parts.bars = el("section", { class: "att-row", "aria-label": "the row of the query" },
    parts.barsTitle, parts.barList, parts.sum, parts.meaning, parts.tables);
}

function showBars(view) {
  const { parts, row, data, query, pick } = view;
  const signed = pick.measure === "scores";
  const places = largestPlaces(row, MOST_BARS)
    .filter((s, i) => i === 0 || signed || Number(cellText(view, s).replace("~", "")) > 0);
  const limit = signed ? scoreLimit(row) : 1;
  parts.barsTitle.textContent = `The row of ${spoken(data.tokens, query)}`;
  const lines = places.map((s) => barLine(tokenFace(data.tokens[s]), String(s), row[s] / limit, cellText(view, s), signed));
  const others = row.length - places.length;
  const rest = restOf(row, places, data);
  if (others && signed) lines.push(barLine(`${others} more, lower`, "", null, ""));
  if (others && !signed && pick.over !== "largest") {
    lines.push(barLine(`rest (${others})`, "", rest, shareText(rest, data)));
  }
  parts.barList.replaceChildren(...lines);
  parts.barList.style.setProperty("--rows", Math.ceil(lines.length / 2)); // of each of two columns
  parts.sum.textContent = sumText(view, places, rest);
}

function barLine(name, place, share, text, signed = false) {
  const fill = el("span", { class: "att-fill" });
  const width = Math.min(1, Math.abs(share ?? 0)) * (signed ? 50 : 100);
  fill.style.width = `${Number.isFinite(width) ? width : 0}%`;
  fill.style.left = signed ? `${share < 0 ? 50 - width : 50}%` : "0";
  return el("div", { class: "att-bar" }, el("bdi", { class: "att-name" }, name), el("span", { class: "quiet" }, place),
    el("span", { class: share === null ? "" : "att-track", "aria-hidden": "true" }, fill), el("span", { class: "att-number" }, text));
}

function sumText({ row, data, pick, query }, places, rest) {
  if (pick.measure === "scores") {
    const total = data.totals[(pick.layer * data.heads.length + pick.head) * data.size + query];
    return `total of the row, ln of the sum of exp(score): ${number(total, 2, !data.exact)}`;
  }
  const sum = places.reduce((a, s) => a + row[s], rest);
  if (pick.over === "largest") return "Each is the largest of several heads, so these need not add up to 1.";
  return data.exact ? `these add up to ${number(sum, 4)}` : `these add up to ${number(sum, 2, true)} (~: rounded, to fit the page)`;
}

// ---------------------------------------------------------------- all heads

function buildGrid(view) {
  const { parts, data, labels } = view;
  const counted = labels.map((label) => {
    const count = label.scores ? label.scores.filter((_, map) => isNamed(label, map)).length : 0;
    return [label.name, `${label.name} (${count})`];
  });
  parts.filter = choice("find", [["", "all heads"], ...counted], "", (name) => { view.filter = name; showGrid(view); });
  parts.gridCanvas = el("canvas", { tabindex: "0", role: "application",
    "aria-label": "small maps of all heads, layers as rows, heads as columns; the arrow keys choose",
    onpointermove: (event) => hoverHead(view, event), onpointerleave: () => nameHead(view, null),
    onclick: (event) => chooseHead(view, headUnder(view, event)), onkeydown: (event) => stepHead(view, event) });
  parts.gridNote = el("p", { class: "att-reading" });
  parts.best = el("div", { class: "controls att-best" });
  parts.grid = el("section", { class: "att-heads", "aria-label": "all heads" },
    el("div", { class: "controls" }, el("h2", {}, data.layers.length * data.heads.length > 1 ? "All heads, by layer" : "What to call this head"), parts.filter),
    el("div", { class: "scroll att-box" }, parts.gridCanvas), parts.gridNote, parts.best);
  for (const node of [parts.filter, parts.gridCanvas]) node.hidden = data.layers.length * data.heads.length === 1;
  const gap = 3;
  const side = Math.max(16, Math.min(62, Math.floor(296 / data.heads.length) - gap, Math.floor(360 / data.layers.length) - gap));
  view.plan = { left: 26, top: 18, gap, side };
}

/** Return the left upper corner, in CSS pixels, of a head's small map. */
export function thumbAt({ left, top, gap, side }, layer, head) {
  return { x: left + head * (side + gap), y: top + layer * (side + gap) };
}

function showGrid(view) {
  const { parts, data, plan, labels, filter, pick } = view;
  const label = labels.find(({ name }) => name === filter);
  const width = plan.left + data.heads.length * (plan.side + plan.gap);
  const height = plan.top + data.layers.length * (plan.side + plan.gap);
  const scale = globalThis.devicePixelRatio || 1;
  Object.assign(parts.gridCanvas, { width: width * scale, height: height * scale });
  Object.assign(parts.gridCanvas.style, { width: `${width}px`, height: `${height}px` });
  const pen = parts.gridCanvas.getContext("2d");
  pen.scale(scale, scale);
  pen.imageSmoothingEnabled = false;
  const [ink, mark, line] = ["--quiet", "--mark", "--line"].map((name) => themeColour(view.root, name));
  const colours = { ink, mark, line };
  nameGrid(pen, view, colours.ink);
  const listed = bestHeads(label, MOST_LISTED);
  view.thumbs.forEach((_, map) => {
    drawThumb(pen, view, map, label && !isNamed(label, map) && !listed.includes(map), colours);
  });
  const chosen = thumbAt(plan, pick.layer, pick.head);
  pen.strokeStyle = colours.mark;
  pen.lineWidth = 2;
  pen.strokeRect(chosen.x - 1, chosen.y - 1, plan.side + 2, plan.side + 2);
  nameHead(view, null);
  showBest(view, label);
}

function nameGrid(pen, { data, plan }, ink) {
  Object.assign(pen, { fillStyle: ink, font: "11px system-ui, 'DejaVu Sans', sans-serif", textBaseline: "middle" });
  pen.textAlign = "center";
  data.heads.forEach((head, h) => pen.fillText(head, thumbAt(plan, 0, h).x + plan.side / 2, plan.top / 2));
  pen.textAlign = "right";
  data.layers.forEach((layer, l) => pen.fillText(layer, plan.left - 7, thumbAt(plan, l, 0).y + plan.side / 2));
}

function drawThumb(pen, { data, plan, thumbs, table }, map, dim, colours) {
  const side = Math.min(plan.side, data.size);
  const { x, y } = thumbAt(plan, Math.floor(map / data.heads.length), map % data.heads.length);
  const small = new OffscreenCanvas(side, side);
  paintSquare(small, thumbs[map], side, table);
  pen.globalAlpha = dim ? 0.15 : 1;
  pen.drawImage(small, x, y, plan.side, plan.side);
  pen.strokeStyle = colours.line;
  pen.lineWidth = 1;
  pen.strokeRect(x - 0.5, y - 0.5, plan.side + 1, plan.side + 1);
  pen.globalAlpha = 1;
}

function paintSquare(canvas, shares, side, table) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(side, side);
  const colours = new Uint32Array(table.buffer);
  const pixels = new Uint32Array(image.data.buffer);
  for (let t = 0; t < side; t++) {
    for (let s = 0; s <= t; s++) pixels[t * side + s] = colours[Math.round(shares[t * side + s] * 255)];
  }
  context.putImageData(image, 0, 0);
}

function headUnder({ plan, data, parts }, event) {
  const box = parts.gridCanvas.getBoundingClientRect();
  const step = plan.side + plan.gap;
  const layer = Math.floor((event.clientY - box.top - plan.top) / step);
  const head = Math.floor((event.clientX - box.left - plan.left) / step);
  return layer >= 0 && layer < data.layers.length && head >= 0 && head < data.heads.length ? { layer, head } : null;
}

function hoverHead(view, event) {
  nameHead(view, headUnder(view, event));
}

/** Say which head the pointer is on, or which is chosen, and what it is called. */
function nameHead({ parts, data, labels, pick, state: { simple } }, at) {
  const { layer, head } = at ?? pick;
  const map = layer * data.heads.length + head;
  const names = namesOf(labels, map).map(({ name, score }) => `${name} ${number(score)}`);
  const near = nearestName(labels, map);
  const none = near ? `no name fits (nearest: ${near.name} ${number(near.score)})` : "no name fits";
  parts.gridNote.textContent = `layer ${data.layers[layer]} head ${data.heads[head]}${simple ? "" : `: ${names.join(", ") || none}`}`;
}

function chooseHead(view, at) {
  if (at) repick(view, { ...at, over: "one" });
}

function stepHead(view, event) {
  const { pick, data } = view;
  const to = stepCell({ row: pick.layer, column: pick.head }, event.key, data.layers.length, data.heads.length);
  if (!to) return;
  event.preventDefault();
  chooseHead(view, { layer: to.row, head: to.column });
}

/** List the heads that come first by a label, as buttons with their scores. */
function showBest(view, label) {
  const { parts, data } = view;
  const best = bestHeads(label, MOST_LISTED);
  const count = data.heads.length;
  const found = best.some((map) => isNamed(label, map));
  const say = !label ? "A head gets a name if at least 0.30 of its weight is on that position, and twice what uniform attention puts there."
    : !label.scores ? `${label.name}: this text has no such position, as no token occurs twice.`
      : `${label.name}: ${label.meaning}. ${
        found ? `Named from ${number(label.threshold)} on; the best:` : `None reaches ${number(label.threshold)}; the nearest:`}`;
  parts.best.replaceChildren(el("p", { class: "quiet" }, say), ...best.map((map) => {
    const at = { layer: Math.floor(map / count), head: map % count };
    return el("button", { type: "button", onclick: () => chooseHead(view, at) },
      `layer ${data.layers[at.layer]} head ${data.heads[at.head]}: ${number(label.scores[map])}`);
  }));
}

// ---------------------------------------------------------------- tables

function buildTables(view) {
  const { parts, data } = view;
  parts.rowTable = tableView("this row as a table", ["key", "token", "weight", "score", "value-weighted"], () => rowCells(view));
  parts.allTable = data.size > 64 ? null : tableView("the whole map as a table",
    ["query \\ key", ...data.tokens.map((token, i) => `${i} ${tokenName(token)}`)], () => mapCells(view));
  parts.tables = el("div", { class: "att-tables" }, parts.rowTable, parts.allTable);
}

function rowCells({ data, pick, query }) {
  const map = pick.layer * data.heads.length + pick.head;
  const [weights, scores, shares] = MEASURES.map(([measure]) => headRow(data, map, query, measure));
  const total = data.totals[map * data.size + query];
  return Array.from(weights, (w, s) => [tokenName(data.tokens[s]), String(s), shareText(w, data),
    scoreText(scores[s], total, data), shareText(shares[s], data)]);
}

function mapCells(view) {
  const { data, pick } = view;
  return data.tokens.map((token, t) => {
    const row = chosenRow(data, pick, t);
    return [`${t} ${tokenName(token)}`, ...data.tokens.map((_, s) => (s > t ? "–" : cellText({ ...view, query: t, row }, s)))];
  });
}
