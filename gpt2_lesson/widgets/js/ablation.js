// The grid of all heads: what the next token's probability becomes without each of them.

import { choice, el, isDark, onTheme, speaker, stepCell, tableView } from "./core.js";
import { ablationSentence, groupWeight, headChanges, quoted, weightTargets } from "./numbers/ablation.js";
import { colourTable, cssColour, inkOn, placeIn } from "./numbers/colours.js";
import { unpackShares } from "./numbers/packing.js";
import { mostRead, scaleTop } from "./numbers/probabilities.js";
import { number, probText, signedNumber, tokenName } from "./numbers/text.js";

// ---------------------------------------------------------------- the figure

const ABLATION_STYLE = `
.ab-columns { display: grid; grid-template: "grid bars" auto "plot bars" 1fr / minmax(0, 1.25fr) minmax(0, 1fr); gap: 8px 28px; align-items: start; }
.ab-columns.tall { grid-template: "grid bars" auto "grid plot" 1fr / minmax(0, 1.25fr) minmax(0, 1fr); }
.ab-heads { grid-area: grid; } .ab-probs { grid-area: bars; } .ab-weights { grid-area: plot; }
.ab-grid { display: grid; gap: 2px; max-width: 640px; }
.ab-grid .name { font-size: 12px; color: var(--quiet); align-self: center; text-align: center; white-space: nowrap; }
.ab-grid .name.side { text-align: right; padding-right: 4px; }
.figure .ab-cell { min-width: 0; min-height: 30px; height: 34px; padding: 0; border: 1px solid var(--line); border-radius: 2px;
  font-size: 12px; font-variant-numeric: tabular-nums; overflow: hidden; white-space: nowrap; }
.ab-cell .narrow { display: none; }
.figure .ab-cell[aria-pressed="true"] { outline: 3px solid var(--mark); outline-offset: 0; position: relative; z-index: 1; }
.ab-scale { display: flex; align-items: center; gap: 8px; font-size: 12px; margin-top: 6px; }
.ab-ramp { height: 10px; width: 130px; border: 1px solid var(--line); }
.ab-bars { display: grid; grid-template-columns: minmax(50px, 7em) 1fr 3.6em 3.6em; gap: 0 8px; align-items: center; }
.ab-bars .num { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.ab-bars .head { color: var(--quiet); font-size: 12px; }
.ab-bars .tok { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.ab-track { position: relative; height: 21px; border-left: 1px solid var(--line); }
.ab-track > * { position: absolute; left: 0; }
.ab-was { top: 3px; height: 15px; border: 1.5px solid var(--quiet); border-left: 0; }
.ab-now { top: 6px; height: 9px; background: var(--accent); }
.ab-legend { display: inline-block; margin-right: 16px; }
.ab-key { display: inline-block; width: 22px; height: 10px; vertical-align: middle; margin-right: 4px; }
.ab-key-was { border: 1.5px solid var(--quiet); } .ab-key-now { background: var(--accent); }
.ab-plot { display: block; width: 100%; max-width: 460px; height: auto; }
.ab-plot line { stroke: var(--line); } .ab-plot .zero { stroke: var(--quiet); stroke-dasharray: 3 3; }
.ab-plot circle { fill: var(--accent); fill-opacity: 0.65; stroke: var(--ground); cursor: pointer; }
.ab-plot circle.on { fill: var(--mark); fill-opacity: 1; stroke: var(--ink); }
.ab-said { min-height: 3em; }
@media (max-width: 1000px) { .ab-cell.small .wide { display: none; } .ab-cell.small .narrow { display: inline; } }
@media (max-width: 760px) {
  .ab-cell .wide { display: none; } .ab-cell .narrow { display: inline; }
  .figure .ab-cell.small { font-size: 10px; letter-spacing: -0.04em; }
  .ab-columns, .ab-columns.tall { grid-template: "grid" "bars" "plot" / minmax(0, 1fr); } .ab-said { min-height: 4.5em; }
}`;

/** Fill `root` with the figure. */
export async function mount(root, state) {
  const view = { state, heads: headChanges(state), weights: state.weights && await unpackShares(state.weights) };
  view.most = Math.max(...view.heads.map(({ change }) => Math.abs(change)));
  view.scale = Math.max(view.most, 0.1); // smaller changes are no change, and stay pale
  view.at = view.heads.findIndex(({ change }) => Math.abs(change) === view.most);
  const said = speaker();
  said.classList.add("ab-said");
  const grid = headGrid(view, show);
  const bars = el("div", { class: "ab-bars" });
  const legend = el("p", { class: "quiet" });
  const title = el("h2");
  const plot = view.weights ? weightPlot(view, show) : null;
  root.replaceChildren(el("style", {}, ABLATION_STYLE), intro(view), said,
    el("div", { class: state.layers > 8 ? "ab-columns tall" : "ab-columns" },
      el("div", { class: "ab-heads" }, grid.node, grid.scale),
      el("div", { class: "ab-probs" }, title, bars, legend), plot?.node),
    tableView("Table: all heads, the largest change first", ablationHead(view), () => ablationTable(view)));
  function show(at) {
    view.at = at;
    const { layer, head } = view.heads[at];
    grid.paint();
    title.textContent = `Next token, without layer ${layer} head ${head}`;
    paintBars(bars, legend, view);
    plot?.paint();
    said.say(ablationSentence(view.heads[at], state) + attendsTo(view, at));
  }
  onTheme(() => show(view.at));
  root.dataset.ready = "";
}

/** Return the lines above the grid: what is measured, on what text. */
function intro({ state }) {
  const tokens = state.tokens.slice(-40).map((t) => (t === "\n" ? "\u21b5" : t)).join("");
  const versus = state.baseline.length ? `, less ln p of ${quoted(state.baseline)},` : "";
  return el("p", {}, "Each cell is one head, ablated alone: by how much ln p of ",
    el("strong", {}, quoted(state.target)), `${versus} changes after `,
    el("bdi", { class: "mono", style: "white-space:pre-wrap" }, `\u201c${tokens}\u201d`), ".");
}

/** Return {node, scale, paint}: a button for each head; the arrow keys walk. */
function headGrid(view, choose) {
  const { state: { layers, heads } } = view;
  const small = heads > 6;
  const buttons = view.heads.map(({ layer, head, change }, at) => el("button", {
    type: "button", class: small ? "ab-cell small" : "ab-cell", onclick: () => choose(at),
    "aria-label": `layer ${layer} head ${head}: ${signedNumber(change, 2)} nats`,
  }, el("span", { class: "wide" }, signedNumber(change, 2)),
  el("span", { class: "narrow" }, signedNumber(change, small ? 1 : 2))));
  const rows = Array.from({ length: layers }, (_, layer) => [
    el("div", { class: "name side" }, small ? String(layer) : `layer ${layer}`),
    buttons.slice(layer * heads, (layer + 1) * heads)]);
  const node = el("div", {
    class: "ab-grid", role: "group", "aria-label": "heads: rows are layers, columns are heads",
    style: `grid-template-columns: ${small ? "1.6em" : "4.2em"} repeat(${heads}, minmax(0, 1fr))`,
    onkeydown: (event) => {
      const cell = stepCell({ row: view.heads[view.at].layer, column: view.heads[view.at].head },
        event.key, layers, heads);
      if (!cell) return;
      const to = cell.row * heads + cell.column;
      event.preventDefault();
      choose(to);
      buttons[to].focus();
    },
  }, el("div"),
  Array.from({ length: heads }, (_, head) => el("div", { class: "name" }, small ? String(head) : `head ${head}`)),
  rows.flat(2));
  const ramp = el("div", { class: "ab-ramp", "aria-hidden": "true" });
  const [low, high] = [`\u2212${number(view.scale, 2)}`, `+${number(view.scale, 2)} nats`];
  const scale = el("div", {}, el("div", { class: "ab-scale" }, low, ramp, high),
    el("p", { class: "quiet" }, (small ? "Rows are layers, columns are heads. " : "")
      + "Blue: without the head the probability falls, so the head helped. Red: it rises, so the head was in the way. "
      + "The other heads stay as they are, and may compensate for the missing one."));
  function paint() {
    const table = colourTable("signed", isDark());
    ramp.style.background = `linear-gradient(90deg, ${[0, 0.25, 0.5, 0.75, 1].map((x) => cssColour(table, x)).join(", ")})`;
    buttons.forEach((button, at) => {
      const share = placeIn(view.heads[at].change, { top: view.scale, signed: true });
      button.style.background = cssColour(table, share);
      button.style.color = inkOn(table, share);
      button.setAttribute("aria-pressed", String(at === view.at));
      button.tabIndex = at === view.at ? 0 : -1;
    });
  }
  return { node, scale, paint };
}

/** Write the before-and-after bars of the head's tokens. */
function paintBars(node, legend, { state, at }) {
  const top = scaleTop(state.shown[at].flatMap((id, i) => [state.before[id], state.after[at][i]]));
  const row = (id, i) => {
    const [was, now] = [state.before[id], state.after[at][i]];
    const bar = (kind, share) => el("div", { class: kind, style: `width:${(100 * share) / top}%` });
    const target = state.always.includes(id);
    return [el("div", { class: target ? "tok mark" : "tok", title: tokenName(state.names[id]) },
      el("bdi", {}, tokenName(state.names[id]))),
    el("div", { class: "ab-track", "aria-hidden": "true" }, bar("ab-was", was), bar("ab-now", now)),
    el("div", { class: "num" }, probText(was)), el("div", { class: "num" }, probText(now))];
  };
  const head = ["next token", `0 to ${top}`, "before", "after"].map((text, i) =>
    el("div", { class: i < 2 ? "head" : "head num" }, text));
  const key = (kind, text) => el("span", { class: "ab-legend" },
    el("span", { class: `ab-key ab-key-${kind}`, "aria-hidden": "true" }), text);
  node.replaceChildren(...head, ...state.shown[at].flatMap(row));
  legend.replaceChildren(key("was", "outline: before, with the head"), key("now", "bar: after, without it"));
}

// ---------------------------------------------------------------- weight against change

/** Return the weights of head number `at`, one for each token of the text. */
function weightRow({ weights, state }, at) {
  return weights.subarray(at * state.tokens.length, (at + 1) * state.tokens.length);
}

/** Return what the last token attends to in that head, as the end of a sentence. */
function attendsTo(view, at) {
  if (!view.weights) return "";
  const [group] = view.state.watch;
  if (group) return ` At the last token, this head has ${number(groupWeight(weightRow(view, at), group[1]), 2)} of its weight on ${tokenName(group[0])}.`;
  const { key, weight } = mostRead(weightRow(view, at));
  return ` At the last token, this head attends most to '${tokenName(view.state.tokens[key])}' (${key}): ${number(weight, 2)}.`;
}

/** Return {node, paint}: each head a dot, its weight on a token against its change. */
function weightPlot(view, choose) {
  const [wide, high, left, bottom] = [460, 190, 46, 34];
  const x = (weight) => left + weight * (wide - left - 14);
  const y = (change) => 12 + (0.5 - (0.5 * change) / view.scale) * (high - bottom - 20);
  const dots = view.heads.map((_, at) => el("circle", { r: 5, onclick: () => choose(at) }));
  const text = (a, b, words, anchor = "middle") => el("text", { x: a, y: b, "text-anchor": anchor }, words);
  const axis = text((left + wide) / 2, high - 4, "");
  const svg = el("svg", { class: "ab-plot", viewBox: `0 0 ${wide} ${high}`, role: "img" },
    el("line", { x1: left, x2: wide - 14, y1: y(0), y2: y(0), class: "zero" }),
    el("line", { x1: left, x2: left, y1: y(view.scale), y2: y(-view.scale) }),
    el("line", { x1: left, x2: wide - 14, y1: high - bottom, y2: high - bottom }),
    text(left - 5, y(view.scale) + 4, `+${number(view.scale, 1)}`, "end"), text(left - 5, y(0) + 4, "0", "end"),
    text(left - 5, y(-view.scale) + 4, `\u2212${number(view.scale, 1)}`, "end"),
    [0, 0.5, 1].map((tick) => text(x(tick), high - bottom + 14, String(tick))),
    axis, dots);
  const note = el("p", { class: "quiet" });
  const targets = weightTargets(view.state);
  let target = targets[0];
  const select = choice("weight on", targets.map(({ face }, i) => [String(i), face]), "0", (value) => {
    target = targets[Number(value)];
    place();
  });
  const weightOf = (at) => (target.places ? groupWeight(weightRow(view, at), target.places) : mostRead(weightRow(view, at)).weight);
  function place() {
    dots.forEach((dot, at) => {
      dot.setAttribute("cx", x(weightOf(at)));
      dot.setAttribute("cy", y(view.heads[at].change));
    });
    axis.textContent = `weight of the last token on ${target.face.length > 40 ? "it" : target.face}`;
    note.textContent = weightNote(view, weightOf, target);
    svg.setAttribute("aria-label", `Weight against change of ln p. ${note.textContent}`);
  }
  place();
  function paint() {
    dots.forEach((dot, at) => dot.classList.toggle("on", at === view.at));
    svg.append(dots[view.at]); // on top
  }
  const node = el("div", { class: "ab-weights" }, el("h2", {}, "Is a large weight a large effect? Change of ln p (nats), by weight"),
    el("div", { class: "controls" }, select), svg, note);
  return { node, paint };
}

/** Return the sentence that sets the largest weight beside the largest change. */
function weightNote(view, weightOf, { face, places }) {
  const order = view.heads.map((_, at) => at);
  const looks = order.reduce((a, b) => (weightOf(b) > weightOf(a) ? b : a));
  const matters = order.reduce((a, b) => (Math.abs(view.heads[b].change) > Math.abs(view.heads[a].change) ? b : a));
  const name = (at) => `layer ${view.heads[at].layer} head ${view.heads[at].head}`;
  const facts = (at) => `weight ${number(weightOf(at), 2)}, ${signedNumber(view.heads[at].change, 2)} nats`;
  if (!places) {
    const { key } = mostRead(weightRow(view, looks));
    return `Largest weight on a single token: ${name(looks)}, on '${tokenName(view.state.tokens[key])}' (${key}; ${
      facts(looks)}). Largest effect: ${name(matters)} (${facts(matters)}).`;
  }
  return looks === matters ? `Layer ${view.heads[looks].layer} head ${view.heads[looks].head} has both the largest weight on ${face} and the largest effect (${facts(looks)}).`
    : `Largest weight on ${face}: ${name(looks)} (${facts(looks)}). Largest effect: ${name(matters)} (${facts(matters)}).`;
}

// ---------------------------------------------------------------- table

function ablationHead({ state, weights }) {
  const what = state.baseline.length ? "ln p against baseline" : "probability of target";
  return ["head", "change in nats", `${what}, before`, "without", ...(weights ? ["attends most to", "weight"] : [])];
}

function ablationTable(view) {
  const { state, heads, weights } = view;
  const shown = (value) => (state.baseline.length ? number(value, 4) : number(Math.exp(value), 6));
  return heads.map((head, at) => ({ ...head, at }))
    .sort((a, b) => Math.abs(b.change) - Math.abs(a.change) || a.at - b.at)
    .map(({ layer, head, change, now, at }) => {
      const read = weights && mostRead(weightRow(view, at));
      return [`layer ${layer} head ${head}`, signedNumber(change, 4), shown(state.was), shown(now),
        ...(read ? [`${tokenName(state.tokens[read.key])} (${read.key})`, number(read.weight, 4)] : [])];
    });
}
