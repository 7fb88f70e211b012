// The sampling bench: what temperature, top-k and top-p make of a model's probabilities.

import { el, slider, speaker, tableView } from "./core.js";
import { unpackBytes, unpackFloats } from "./numbers/packing.js";
import { draw, generator, mostProbableFirst, nextProbs, scaleTop, topKSteps } from "./numbers/probabilities.js";
import { benchSentence, factsText } from "./numbers/sampling.js";
import { number, probText, tokenFace, tokenName } from "./numbers/text.js";

const BENCH_ROWS = 12;

// ---------------------------------------------------------------- the figure

const BENCH_STYLE = `
.sb-text { white-space: pre-wrap; background: var(--panel); padding: 2px 6px; border-radius: 4px; }
.sb-grid { display: grid; grid-template-columns: minmax(70px, 9.5em) 1fr 4.5em 4.5em 5em;
  gap: 0 8px; align-items: center; margin-top: 6px; max-width: 860px; }
.sb-grid > .row { display: contents; }
.sb-grid .num { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.sb-grid .head { color: var(--quiet); font-size: 12px; align-self: end; }
.sb-name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.sb-row-cut .sb-name { text-decoration: line-through; } .sb-row-cut .sb-name, .sb-row-cut .sb-after { color: var(--quiet); }
.sb-lump { font-size: 12px; }
.sb-track { position: relative; height: 22px; border-left: 1px solid var(--line); }
.sb-track > * { position: absolute; left: 0; }
.sb-before { top: 3px; height: 16px; border: 1.5px solid var(--quiet); border-left: 0; }
.sb-fill { top: 6px; height: 10px; background: var(--accent); }
.sb-row-cut .sb-before { border-style: dashed; }
.sb-tick { top: 1px; height: 20px; width: 3px; margin-left: -1px; background: var(--mark); }
.sb-axis { position: relative; height: 16px; font-size: 12px; color: var(--quiet); }
.sb-axis span { position: absolute; bottom: 0; transform: translateX(-50%); white-space: nowrap; }
.sb-axis span:first-child { transform: none; } .sb-axis span:last-child { transform: translateX(-100%); }
.sb-legend { display: inline-block; margin-right: 16px; }
.sb-key { display: inline-block; width: 22px; height: 10px; vertical-align: middle; margin: 0 4px 0 0; }
.sb-key-before { border: 1.5px solid var(--quiet); } .sb-key-after { background: var(--accent); }
.sb-key-tick { background: var(--mark); width: 3px; height: 14px; margin-left: 2px; }
.sb-said { min-height: 1.5em; }
@media (max-width: 1000px) { .sb-said { min-height: 3em; } }
@media (max-width: 560px) {
  .sb-grid { grid-template-columns: minmax(60px, 6.4em) 1fr 3.8em 3.8em 2.9em; gap: 0 6px; font-size: 13px; }
  .sb-said { min-height: 6em; }
}`;

/** Fill `root` with the bench. */
export async function mount(root, state) {
  const [logits, bytes] = await Promise.all([
    unpackFloats(state.logits), unpackBytes(state.names)]);
  const names = JSON.parse(new TextDecoder().decode(bytes));
  const order = mostProbableFirst(logits);
  const bench = {
    logits, names, order, state, plain: nextProbs(logits).probs,
    settings: { temperature: state.temperature, top_k: state.top_k, top_p: state.top_p },
    counts: new Map(), drawn: 0, last: null, random: generator(6),
  };
  const parts = benchParts(bench, again);
  root.replaceChildren(el("style", {}, BENCH_STYLE), ...parts.nodes);
  function again() {
    const { temperature, top_k, top_p } = bench.settings;
    Object.assign(bench, { shaped: nextProbs(logits, temperature, top_k, top_p) });
    forget(bench);
    paintBench(bench, parts);
  }
  again();
  root.dataset.ready = "";
}

/** Forget the samples. */
function forget(bench) {
  bench.counts.clear();
  Object.assign(bench, { drawn: 0, last: null });
}

/** Return {nodes, ...} of the bench: text, controls, rows, numbers, table. */
function benchParts(bench, changed) {
  const said = speaker();
  said.classList.add("sb-said");
  const rows = bench.order.subarray(0, BENCH_ROWS);
  const lines = [...rows].map((id) => benchRow(bench.names[id], id === bench.state.came_next));
  const others = bench.names.length > rows.length
    ? benchRow(`${(bench.names.length - rows.length).toLocaleString("en")} more`, false, true)
    : null;
  const axis = el("div", { class: "sb-axis" });
  const head = ["before", "after", "count"].map((t) => el("div", { class: "num head" }, t));
  const grid = el("div", { class: "sb-grid" },
    el("div", { class: "head" }, "next token"), axis, ...head,
    [...lines, ...(others ? [others] : [])].map((line) => line.node));
  const parts = { said, rows, lines, others, axis, facts: el("p", {}) };
  const controls = benchControls(bench, changed);
  parts.table = tableView(bench.names.length > 100 ? "Table: the 100 most probable" : "Table: all tokens", ["token", "logit", "before", "after", "count"],
    () => benchTable(bench));
  parts.nodes = [benchText(bench.state), controls, drawButtons(bench, parts), said,
    grid, legend(bench.state), parts.facts, parts.table];
  return parts;
}

/** Return the line that says where in the text we are. */
function benchText({ context, position }) {
  if (!context.length) return el("p", {}, "The next-token probabilities, from these logits.");
  const text = context.map((token) => (token === "\n" ? "\u21b5" : token === " " ? " " : tokenFace(token)));
  return el("p", {}, `After position ${position}: `,
    el("bdi", { class: "sb-text mono" }, text.join("")), " comes \u2026");
}

/** Return the three sliders. */
function benchControls(bench, changed) {
  const { settings } = bench;
  const size = bench.names.length;
  const steps = topKSteps(size, settings.top_k);
  const at = (k) => steps.findIndex((step) => step >= Math.min(k ?? size, size));
  const put = (name, value) => { settings[name] = value; changed(); };
  const temperature = slider("temperature", {
    min: 0, max: Math.max(3, settings.temperature), step: 0.05, value: settings.temperature,
    show: (x) => (x === 0 ? "0 (greedy)" : String(x)),
  }, (x) => put("temperature", x));
  const topK = slider("top-k", {
    min: 0, max: steps.length - 1, step: 1, value: at(settings.top_k),
    show: (i) => (steps[i] === size ? "off" : steps[i].toLocaleString("en")),
  }, (i) => put("top_k", steps[i] === size ? null : steps[i]));
  const topP = slider("top-p", {
    min: 0.01, max: 1, step: 0.01, value: settings.top_p ?? 1,
    show: (x) => (x === 1 ? "off" : String(x)),
  }, (x) => put("top_p", x === 1 ? null : x));
  return el("div", { class: "controls" }, temperature, topK, topP);
}

/** Return the buttons that sample and start again. */
function drawButtons(bench, parts) {
  const button = (text, times) => el("button", {
    type: "button",
    onclick: () => {
      if (!times) forget(bench);
      for (let i = 0; i < times; i++) {
        bench.last = draw(bench.shaped.probs, bench.random);
        bench.counts.set(bench.last, (bench.counts.get(bench.last) ?? 0) + 1);
      }
      bench.drawn += times;
      paintBench(bench, parts);
    },
  }, text);
  return el("div", { class: "controls", style: "margin-top:6px" },
    button("sample one", 1), button("sample 100", 100), button("clear samples", 0));
}

/** Return {node, paint} of one token's row. */
function benchRow(name, cameNext, lump = false) {
  const bar = (kind) => el("div", { class: kind });
  const [before, fill, tick] = [bar("sb-before"), bar("sb-fill"), bar("sb-tick")];
  const cells = ["", " sb-after", ""].map((more) => el("div", { class: `num${more}` }));
  const node = el("div", { class: "row" },
    el("div", { class: `sb-name${lump ? " quiet sb-lump" : ""}`, title: tokenName(name) },
      el("bdi", {}, tokenName(name)),
      cameNext ? el("span", { class: "mark", title: "came next in the text" }, " \u25c2") : null),
    el("div", { class: "sb-track", "aria-hidden": "true" }, before, fill, tick), ...cells);
  function paint(probs, drawn, scale) {
    const wide = (share) => `${Math.min(100, (100 * share) / scale)}%`;
    before.style.width = wide(probs.before);
    fill.style.width = wide(probs.after);
    tick.style.left = wide(drawn.share);
    tick.hidden = !drawn.count;
    node.classList.toggle("sb-row-cut", probs.after === 0);
    cells[0].textContent = probText(probs.before);
    cells[1].textContent = probs.after === 0 ? "cut" : probText(probs.after);
    cells[2].textContent = drawn.of ? `${drawn.count}` : "";
  }
  return { node, paint };
}

/** Return what the shapes of the bars mean. */
function legend({ came_next: cameNext }) {
  const key = (kind, text) => el("span", { class: "sb-legend" },
    el("span", { class: `sb-key sb-key-${kind}`, "aria-hidden": "true" }), text);
  return el("p", { class: "quiet" }, key("before", "before (dashed: cut)"), key("after", "after"),
    key("tick", "sampled fraction"), cameNext == null ? null : "\u25c2 came next");
}

/** Write all that depends on the settings or the samples. */
function paintBench(bench, parts) {
  const { plain, shaped: { probs }, drawn, counts } = bench;
  const share = (count) => ({ count, share: drawn ? count / drawn : 0, of: drawn });
  const shown = [...parts.rows].map((id) => ({
    probs: { before: plain[id], after: probs[id] }, drawn: share(counts.get(id) ?? 0),
  }));
  const sum = (get) => shown.reduce((total, row) => total + get(row), 0);
  const rest = {
    probs: {
      before: otherProbs(plain, parts.rows),
      after: otherProbs(probs, parts.rows),
    },
    drawn: share(drawn - sum((row) => row.drawn.count)),
  };
  const scale = scaleTop([...shown, rest].flatMap(({ probs: o }) => [o.before, o.after]));
  parts.lines.forEach((line, i) => line.paint(shown[i].probs, shown[i].drawn, scale));
  parts.others?.paint(rest.probs, rest.drawn, scale);
  parts.axis.replaceChildren(...[0, 0.5, 1].map((part) =>
    el("span", { style: `left:${100 * part}%` }, String(Number((part * scale).toPrecision(3))))));
  parts.facts.textContent = factsText(bench);
  parts.said.say(benchSentence(bench, [...parts.rows]));
  parts.table.refresh();
}

/** Return the probability of all tokens but the shown ones. */
function otherProbs(probs, shown) {
  const without = probs.slice();
  for (const id of shown) without[id] = 0;
  return without.reduce((a, b) => a + b, 0);
}

/** Return the rows of the table: the 100 most probable, with six decimals. */
function benchTable({ order, names, logits, plain, shaped: { probs }, counts }) {
  return [...order.subarray(0, 100)].map((id) => [tokenName(names[id]),
    number(logits[id], 4), number(plain[id], 6), number(probs[id], 6),
    String(counts.get(id) ?? 0)]);
}
