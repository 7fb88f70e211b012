// One token's way through the blocks: what the model would say if it stopped there.
import {
  el, number, slider, speaker, tableView, tokenName, tokenFace, unpackBytes, unpackFloats, unpackShares,
  colourTable, cssColour, inkOn, isDark, onTheme,
} from "./core.js";

// ---------------------------------------------------------------- numbers

/** Return {position, token, next, last, layers: [...]} of one token, from all numbers. */
export function traceOf(data, position) {
  const { tokens, blocks } = data;
  const layers = Array.from({ length: blocks + 1 }, (_, floor) => ({
    name: floor === 0 ? "embedding" : `after layer ${floor - 1}`,
    readings: readingsAt(data, floor, position),
    nextOdds: data.nextOdds[floor * tokens.length + position],
    ...(floor === 0 ? {} : blockAt(data, floor - 1, position)),
  }));
  const last = position === tokens.length - 1;
  return { position, token: tokens[position], next: data.next[position], last, layers };
}

/** Return the likeliest next tokens [{name, odds, hit}] after `floor` blocks.
 *
 * `hit`: it is the token that comes next; that goes by place, as names may be shared.
 */
function readingsAt({ tokens, names, lens, odds, likeliest, next_reading: next }, floor, position) {
  const from = (floor * tokens.length + position) * likeliest;
  return Array.from({ length: likeliest }, (_, i) => ({
    name: names[lens[from + i]], odds: odds[from + i], hit: lens[from + i] === next[position] }));
}

/** Return {stream, attention, mlp, looks} of one block; looks is null if not captured. */
function blockAt(data, block, position) {
  const { tokens, blocks, norms, captured, looks: count } = data;
  const norm = (kind) => norms[(kind * blocks + block) * tokens.length + position];
  const row = captured.indexOf(block);
  const from = (row * tokens.length + position) * count;
  const looks = row < 0 ? null : Array.from({ length: count }, (_, i) => ({
    head: data.heads[from + i], key: data.keys[from + i], weight: data.weights[from + i] }));
  return { stream: norm(0), attention: norm(1), mlp: norm(2), looks };
}

/** Return the first layer from which on the lens names the next token first, or -1. */
export function settledAt({ layers }) {
  let from = layers.length;
  while (from > 0 && layers[from - 1].readings[0].hit) from -= 1;
  return from === layers.length ? -1 : from;
}

/** Return the sentence that says what happens to the token on its way. */
export function traceSentence(trace) {
  const { layers, next, token, position, last } = trace;
  const face = (name) => `'${tokenName(name)}'`;
  const where = (i) => (i === 0 ? "at the embedding" : layers[i].name);
  const [start, end] = [layers[0], layers.at(-1)];
  const settled = settledAt(trace);
  const what = last ? "its own answer (the text ends here)" : "which really came next";
  return `Position ${position}, ${face(token)}: at the embedding the lens reads `
    + `${face(start.readings[0].name)} (${percent(start.readings[0].odds)}). `
    + `${face(next)}, ${what}, goes from ${percent(start.nextOdds)} to ${percent(end.nextOdds)}`
    + (settled < 0 ? `; the model's answer is ${face(end.readings[0].name)}.`
      : settled === 0 ? " and leads all the way." : ` and leads for good ${where(settled)}.`);
}

/** Return odds in three decimals, or that they are smaller than that. */
function percent(odds) {
  return odds > 0 && odds < 0.0005 ? "<0.001" : number(odds, 3);
}

// ---------------------------------------------------------------- the figure

const TRACE_STYLE = `
.tr-tokens { display: flex; flex-wrap: wrap; max-height: 84px; overflow-y: auto; border: 1px solid var(--line); border-radius: 4px; padding: 2px 6px; margin-bottom: 6px; }
.figure .tr-tokens .token { height: 26px; max-width: 100%; overflow: hidden; text-overflow: ellipsis; }
.tr-grid { display: grid; grid-template-columns: 6.6em minmax(200px, 5fr) minmax(110px, 1.4fr) minmax(120px, 1.8fr) minmax(206px, 2.2fr); gap: 0 14px; }
.tr-row { display: grid; grid-template-columns: subgrid; grid-column: 1 / -1; align-items: center;
  min-height: 34px; border-top: 1px solid var(--line); padding: 3px 0; }
.tr-row.head { border: 0; color: var(--quiet); font-size: 12px; align-items: end; min-height: 0; }
.tr-chips { display: flex; height: 26px; gap: 2px; overflow: hidden; }
.tr-chip { flex: 1 1 0; min-width: 0; overflow: hidden; white-space: nowrap;
  display: flex; padding: 2px 5px; border-radius: 3px; font-size: 13px; border: 1.5px solid transparent; }
.tr-chip bdi { overflow: hidden; text-overflow: ellipsis; }
.tr-chip.hit { border-color: var(--mark); font-weight: 700; }
.tr-chip .odds { font-variant-numeric: tabular-nums; margin-left: 5px; }
.tr-next { display: flex; align-items: center; gap: 6px; font-variant-numeric: tabular-nums; }
.tr-track { flex: 1; height: 12px; background: var(--panel); border-radius: 2px; }
.tr-fill { height: 100%; background: var(--mark); border-radius: 2px; }
.tr-norms { display: grid; grid-template-columns: 1fr 3.2em; gap: 1px 6px; font-size: 11px; line-height: 10px; align-items: center; }
.tr-norms div { height: 8px; border-radius: 1px; }
.tr-norms span { text-align: right; font-variant-numeric: tabular-nums; }
.tr-k0 { background: var(--quiet); } .tr-k1 { background: var(--accent); }
.tr-k2 { background: var(--ground); border: 1.5px solid var(--accent); }
.tr-key { display: inline-block; width: 14px; height: 8px; margin: 0 3px 0 0; }
.tr-looks { font-size: 13px; line-height: 1.25; overflow: hidden; }
.tr-looks span { white-space: nowrap; } .tr-label { display: none; }
.tr-said { min-height: 3em; }
@media (max-width: 760px) {
  .tr-grid { grid-template-columns: 4fr 5fr; gap: 0 12px; }
  .tr-row { padding: 6px 0; gap: 4px 12px; }
  .tr-row.head { display: none; }
  .tr-row > .tr-name, .tr-row > .tr-chips { grid-column: 1 / -1; }
  .tr-row > .tr-next { grid-column: 1 / -1; }
  .tr-chip:nth-child(n+4) { display: none; }
  .tr-label { display: inline; color: var(--quiet); font-size: 12px; }
  .tr-said { min-height: 6em; }
}`;

/** Fill `root` with the figure. */
export async function mount(root, state) {
  const data = await traceData(state);
  const said = speaker();
  said.classList.add("tr-said");
  const grid = el("div", { class: "tr-grid" });
  let position = state.position;
  const tokens = tokenRow(data.tokens, show);
  const steps = slider("position", {
    min: 0, max: data.tokens.length - 1, step: 1, value: position,
    show: (i) => `${i} '${tokenFace(data.tokens[i])}'`,
  }, show);
  const table = tableView("Table: all numbers of this token", TRACE_HEAD,
    () => traceTable(traceOf(data, position), data.tokens));
  root.replaceChildren(el("style", {}, TRACE_STYLE), tokens.node,
    el("div", { class: "controls" }, steps), said, grid, traceNotes(), table);
  function show(chosen) {
    position = Math.max(0, Math.min(data.tokens.length - 1, chosen));
    const trace = traceOf(data, position);
    steps.set(position);
    tokens.mark(position);
    said.say(traceSentence(trace));
    paintLayers(grid, trace, data.tokens);
    table.refresh();
  }
  onTheme(() => show(position));
  root.dataset.ready = "";
}

/** Return the state with its numbers unpacked. */
async function traceData(state) {
  const [lens, odds, nextOdds, norms, keys, heads, weights] = await Promise.all([
    unpackBytes(state.lens), unpackShares(state.odds), unpackFloats(state.next_odds),
    unpackFloats(state.norms), unpackBytes(state.keys), unpackBytes(state.heads),
    unpackShares(state.weights)]);
  return {
    ...state, odds, nextOdds, norms, weights, lens: new Uint32Array(lens.buffer),
    keys: new Uint16Array(keys.buffer), heads: new Uint16Array(heads.buffer),
  };
}

/** Return {node, mark}: the text as buttons; one of them in the tab order, arrows walk. */
function tokenRow(tokens, go) {
  const buttons = tokens.map((token, i) => el("button", {
    type: "button", class: "token", tabindex: "-1", "aria-pressed": "false",
    "aria-label": `position ${i}: ${tokenName(token)}`, onclick: () => go(i),
  }, el("bdi", {}, tokenFace(token))));
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1, Home: -Infinity, End: Infinity };
  const node = el("div", {
    class: "tokens tr-tokens", role: "group", "aria-label": "the text: choose a token",
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
  return { node, mark };
}

/** Write the rows, one for each layer. */
function paintLayers(grid, trace, tokens) {
  const table = colourTable("shares", isDark());
  const most = Math.max(...trace.layers.flatMap(({ stream = 0, attention = 0, mlp = 0 }) => [stream, attention, mlp]));
  const next = `odds of '${tokenName(trace.next)}'${trace.last ? " (its answer)" : " (came next)"}`;
  const head = ["depth", "the lens reads: likeliest next tokens", next, "norms", "heads that look hardest"];
  grid.replaceChildren(el("div", { class: "tr-row head" }, head.map((text) => el("div", {}, text))),
    ...trace.layers.map((layer) => el("div", { class: "tr-row" },
      el("div", { class: "tr-name" }, layer.name),
      chips(layer, table), nextBar(layer, next), normBars(layer, most),
      looksText(layer, tokens))));
}

/** Return the likeliest next tokens, each on a ground coloured by its odds. */
function chips({ readings }, table) {
  return el("div", { class: "tr-chips" }, readings.map(({ name, odds, hit }) => el("span", {
    class: hit ? "tr-chip hit" : "tr-chip", title: tokenName(name),
    style: `background:${cssColour(table, odds)};color:${inkOn(table, odds)}`,
  }, el("bdi", {}, tokenName(name)), el("span", { class: "odds" }, number(odds, 2)))));
}

/** Return the bar and number of the odds of the token that came next. */
function nextBar({ nextOdds }, title) {
  return el("div", { class: "tr-next" }, el("span", { class: "tr-label" }, title),
    el("div", { class: "tr-track", "aria-hidden": "true" },
      el("div", { class: "tr-fill", style: `width:${100 * nextOdds}%` })), percent(nextOdds));
}

/** Return three bars: the stream before the layer, and what its branches add. */
function normBars({ stream, attention, mlp }, most) {
  if (stream == null) return el("div", { class: "quiet tr-looks" });
  const text = (norm) => number(norm, most >= 100 ? 0 : most >= 10 ? 1 : 2); // one format for all
  const rows = [stream, attention, mlp].flatMap((norm, kind) => [
    el("div", { class: `tr-k${kind}`, style: `width:${(100 * norm) / most}%` }),
    el("span", {}, text(norm))]);
  return el("div", { class: "tr-norms", role: "img", "aria-label":
    `norms: stream ${text(stream)}, attention adds ${text(attention)}, feed-forward adds ${text(mlp)}` }, rows);
}

/** Return where the heads looked most, as text. */
function looksText({ name, looks }, tokens) {
  if (name === "embedding") return el("div");
  if (!looks) return el("div", { class: "tr-looks quiet" }, "heads not captured");
  return el("div", { class: "tr-looks" }, looks.slice(0, 2).flatMap(({ head, key, weight }, i) => [
    i ? el("br") : null, el("span", {}, `head ${head}: ${number(weight, 2)} on `,
      el("bdi", {}, `'${tokenName(tokens[key])}'`), ` (${key})`)]));
}

/** Return the lines that say what is seen. */
function traceNotes() {
  const key = (kind) => el("span", { class: `tr-key tr-k${kind}`, "aria-hidden": "true" });
  return el("div", { class: "quiet" },
    el("p", {}, "The lens: stop there, put the stream through the final norm and the output table, "
      + "and read which token would come next. All odds of a layer, with those not shown, add up to 1."),
    el("p", {}, "Norms, in lengths of vectors: ", key(0), "the stream as the layer gets it, ",
      key(1), "what attention adds, ", key(2), "what the feed-forward adds. "
      + "A long addition beside a short stream: this layer changes much here."),
    el("p", {}, "Heads that look hardest: the two with the largest weight on one token, and that token. "
      + "They show what this layer may have fetched for the answer, and from where."));
}

const TRACE_HEAD = ["depth", "likeliest next tokens", "odds of what came next", "stream before",
  "attention adds", "feed-forward adds", "heads that look hardest"];

/** Return the table's rows: four decimals, and all that was kept. */
function traceTable({ layers }, tokens) {
  const norm = (x) => (x == null ? "\u2013" : x.toPrecision(4));
  return layers.map(({ name, readings, nextOdds, stream, attention, mlp, looks }) => [name,
    readings.map((r) => `${tokenName(r.name)} ${number(r.odds, 4)}`).join("; "),
    nextOdds > 0 && nextOdds < 0.00005 ? "<0.0001" : number(nextOdds, 4),
    norm(stream), norm(attention), norm(mlp),
    looks ? looks.map((l) => `head ${l.head}: ${number(l.weight, 4)} on ${tokenName(tokens[l.key])} (${l.key})`).join("; ") : "\u2013"]);
}
