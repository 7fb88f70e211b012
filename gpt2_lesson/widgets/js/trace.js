// One token's way through the blocks: what the model would say if it stopped there.

import { el, isDark, onTheme, slider, speaker, tableView, tokenStrip } from "./core.js";
import { colourTable, cssColour, inkOn } from "./numbers/colours.js";
import { number, probText, tokenFace, tokenName } from "./numbers/text.js";
import { traceData, traceOf, traceSentence } from "./numbers/trace.js";

// ---------------------------------------------------------------- the figure

const TRACE_STYLE = `
.tr-grid { display: grid; grid-template-columns: 6.6em minmax(200px, 5fr) minmax(110px, 1.4fr) minmax(120px, 1.8fr) minmax(206px, 2.2fr); gap: 0 14px; }
.tr-row { display: grid; grid-template-columns: subgrid; grid-column: 1 / -1; align-items: center;
  min-height: 34px; border-top: 1px solid var(--line); padding: 3px 0; }
.tr-row.head { border: 0; color: var(--quiet); font-size: 12px; align-items: end; min-height: 0; }
.tr-chips { display: flex; height: 26px; gap: 2px; overflow: hidden; }
.tr-chip { flex: 1 1 0; min-width: 0; overflow: hidden; white-space: nowrap;
  display: flex; padding: 2px 5px; border-radius: 3px; font-size: 13px; border: 1.5px solid transparent; }
.tr-chip bdi { overflow: hidden; text-overflow: ellipsis; }
.tr-chip.hit { border-color: var(--mark); font-weight: 700; }
.tr-chip .probs { font-variant-numeric: tabular-nums; margin-left: 5px; }
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
@media (max-width: 960px) { /* a layer has two lines */
  .tr-grid { grid-template-columns: 6.6em minmax(200px, 3fr) minmax(100px, 2fr) minmax(190px, 3fr); }
  .tr-row { padding: 6px 0; row-gap: 4px; }
  .tr-row.head { display: none; }
  .tr-row > .tr-name { grid-row: span 2; }
  .tr-row > .tr-chips { grid-column: 2 / -1; }
  .tr-next { flex-wrap: wrap; gap: 0 6px; }
  .tr-label { display: inline; flex: 1 0 100%; color: var(--quiet); font-size: 12px; }
}
@media (max-width: 640px) {
  .tr-grid { grid-template-columns: 3fr 5fr; gap: 0 12px; }
  .tr-row > .tr-name, .tr-row > .tr-chips, .tr-row > .tr-next { grid-column: 1 / -1; grid-row: auto; }
  .tr-chip:nth-child(n+4) { display: none; }
  .tr-looks span { white-space: normal; }
  .tr-said { min-height: 6em; }
}`;

/** Fill `root` with the figure. */
export async function mount(root, state) {
  const data = await traceData(state);
  const said = speaker();
  said.classList.add("tr-said");
  const grid = el("div", { class: "tr-grid" });
  let position = state.position;
  const tokens = tokenStrip(data.tokens, "the text: choose a token", show);
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

/** Write the rows, one for each layer. */
function paintLayers(grid, trace, tokens) {
  const table = colourTable("shares", isDark());
  const most = Math.max(...trace.layers.flatMap(({ stream = 0, attention = 0, mlp = 0 }) => [stream, attention, mlp]));
  const next = `probability of '${tokenName(trace.next)}'${trace.last ? " (its answer)" : " (came next)"}`;
  const head = ["depth", "logit lens: most probable next tokens", next, "norms", "largest attention weights"];
  grid.replaceChildren(el("div", { class: "tr-row head" }, head.map((text) => el("div", {}, text))),
    ...trace.layers.map((layer) => el("div", { class: "tr-row" },
      el("div", { class: "tr-name" }, layer.name),
      chips(layer, table), nextBar(layer, next), normBars(layer, most),
      looksText(layer, tokens))));
}

/** Return the most probable next tokens, each on a ground coloured by its probability. */
function chips({ readings }, table) {
  return el("div", { class: "tr-chips" }, readings.map(({ name, probs, hit }) => el("span", {
    class: hit ? "tr-chip hit" : "tr-chip", title: tokenName(name),
    style: `background:${cssColour(table, probs)};color:${inkOn(table, probs)}`,
  }, el("bdi", {}, tokenName(name)), el("span", { class: "probs" }, number(probs, 2)))));
}

/** Return the bar and number of the probability of the token that came next. */
function nextBar({ nextProbs }, title) {
  return el("div", { class: "tr-next" }, el("span", { class: "tr-label" }, title),
    el("div", { class: "tr-track", "aria-hidden": "true" },
      el("div", { class: "tr-fill", style: `width:${100 * nextProbs}%` })), probText(nextProbs));
}

/** Return three bars: the residual stream before the layer, and what its branches add. */
function normBars({ stream, attention, mlp }, most) {
  if (stream == null) return el("div", { class: "quiet tr-looks" });
  const text = (norm) => number(norm, most >= 100 ? 0 : most >= 10 ? 1 : 2); // one format for all
  const rows = [stream, attention, mlp].flatMap((norm, kind) => [
    el("div", { class: `tr-k${kind}`, style: `width:${(100 * norm) / most}%` }),
    el("span", {}, text(norm))]);
  return el("div", { class: "tr-norms", role: "img", "aria-label":
    `norms: residual stream ${text(stream)}, attention adds ${text(attention)}, feed-forward adds ${text(mlp)}` }, rows);
}

/** Return the heads' largest weights, as text. */
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
    el("p", {}, "Logit lens: stop there, put the residual stream through the final norm and the output head, "
      + "and read which token would come next. All probabilities of a layer, with those not shown, add up to 1."),
    el("p", {}, "Norms, in lengths of vectors: ", key(0), "the residual stream before the layer, ",
      key(1), "what attention adds, ", key(2), "what the feed-forward network adds. "
      + "A long addition beside a short residual stream: this layer changes much here."),
    el("p", {}, "Largest attention weights: the two heads with the largest weight on one token, and that token. "
      + "They show what this layer may have read for the answer, and from where."));
}

const TRACE_HEAD = ["depth", "most probable next tokens", "probability of what came next", "residual stream before",
  "attention adds", "feed-forward adds", "largest attention weights"];

/** Return the table's rows: four decimals, and all that was kept. */
function traceTable({ layers }, tokens) {
  const norm = (x) => (x == null ? "\u2013" : x.toPrecision(4));
  return layers.map(({ name, readings, nextProbs, stream, attention, mlp, looks }) => [name,
    readings.map((r) => `${tokenName(r.name)} ${number(r.probs, 4)}`).join("; "),
    nextProbs > 0 && nextProbs < 0.00005 ? "<0.0001" : number(nextProbs, 4),
    norm(stream), norm(attention), norm(mlp),
    looks ? looks.map((l) => `head ${l.head}: ${number(l.weight, 4)} on ${tokenName(tokens[l.key])} (${l.key})`).join("; ") : "\u2013"]);
}
