// The arithmetic bench: a query on a plane, and the chain of numbers that follows.

import { choice, el, slider, speaker, toggle } from "./core.js";
import { attendOne, benchSentence, fraction, hullOf, reach } from "./numbers/arithmetic.js";
import { number, shortVector, tokenFace, tokenName, vectorText } from "./numbers/text.js";

const SIDE = 320; // of a plane's viewBox
const STEP = 0.05; // the sliders' and the keys' step

/** Fill `root` with the bench. */
export async function mount(root, state) {
  const { tokens, k, v } = state;
  const now = { asks: tokens.length - 1, root: true, mask: false, q: state.q.map((row) => [...row]) };
  const limit = reach([...k, ...state.q]);
  const said = speaker();
  const plane = keyPlane(tokens, k, limit, (point) => change(point));
  const chain = el("div", { class: "scroll bench-chain", tabindex: "0", role: "region", "aria-label": "the chain of numbers" });
  const average = v[0].length === 2 ? valuePlane(tokens, v) : null;
  const who = choice("who asks", tokens.map((token, i) => [i, `${i}: ${tokenName(token)}`]), now.asks,
    (i) => { now.asks = Number(i); show(); });
  const sliders = [0, 1].map((i) => slider(`q${i}`, { min: -limit, max: limit, step: "any",
    value: 0, show: (x) => number(x) }, (x) => change(now.q[now.asks].with(i, Math.round(x / STEP) * STEP))));
  sliders.forEach((one) => one.classList.add("bench-slider"));
  const root2 = toggle("divide by \u221a2", true, (on) => { now.root = on; show(); });
  const mask = toggle("mask the future", false, (on) => { now.mask = on; show(); });
  const back = el("button", { type: "button", onclick: reset }, "start again");
  root.classList.add("bench");
  root.replaceChildren(
    el("div", { class: "controls" }, who, root2, state.mask ? mask : null, back), said,
    el("div", { class: "bench-columns" },
      el("div", { class: "bench-plane" }, el("h2", {}, "query and keys"), plane.node, ...sliders,
        el("p", { class: "quiet" }, "Drag the query\u2019s tip, or focus the plane and use the arrow keys.")),
      el("div", { class: "bench-middle" }, el("h2", {}, "from match to average"), chain),
      average ? el("div", { class: "bench-values" }, el("h2", {}, "values and their average"), average.node) : null));

  function change(point) {
    now.q[now.asks] = point.map((x) => Math.max(-limit, Math.min(limit, x)));
    show();
  }
  function reset() {
    Object.assign(now, { asks: tokens.length - 1, root: true, mask: false, q: state.q.map((row) => [...row]) });
    who.control.value = now.asks;
    root2.set(true);
    mask.set(false);
    show();
  }
  function show() {
    const query = now.q[now.asks];
    const all = attendOne(query, k, v, now);
    sliders.forEach((one, i) => one.set(query[i]));
    plane.draw(query, all, tokens[now.asks]);
    average?.draw(all);
    chain.replaceChildren(chainTable(tokens, k, v, all, now));
    said.say(benchSentence(tokens, query, all, now));
  }
  show();
  root.dataset.ready = "";
}

/** Return the table: a row for each key, and the sum below. */
function chainTable(tokens, keys, values, all, { root, mask, asks }) {
  const scaledHead = root ? ["\u00f7\u00a0\u221a2"] : [];
  const maskHead = mask ? ["mask"] : [];
  const head = ["key", "q\u00b7k", ...scaledHead, ...maskHead, "exp", "weight", "value"];
  const rows = tokens.map((token, s) => {
    const hidden = mask && s > asks;
    const words = fraction(all.weights[s]);
    return el("tr", { class: hidden ? "bench-hidden" : null },
      el("th", { scope: "row" }, el("bdi", { class: "bench-name" }, tokenFace(token)),
        el("span", { class: "bench-small" }, shortVector(keys[s]))),
      el("td", {}, number(all.scores[s])),
      root ? el("td", {}, number(all.scaled[s])) : null,
      mask ? el("td", {}, hidden ? "\u2212\u221e" : number(all.masked[s])) : null,
      el("td", {}, powerText(all.powers[s])),
      el("td", {}, el("strong", {}, number(all.weights[s])),
        el("span", { class: "bench-small" }, hidden ? "hidden" : words ? `= ${words}` : ""),
        weightBar(all.weights[s])),
      el("td", {}, shortVector(values[s])));
  });
  const blanks = head.slice(1, -3).map(() => el("td", {}));
  const sum = all.powers.reduce((a, b) => a + b, 0);
  const foot = el("tr", { class: "bench-sum" }, el("th", { scope: "row" }, "sum"), ...blanks,
    el("td", {}, powerText(sum)), el("td", {}, el("strong", {}, number(all.weights.reduce((a, b) => a + b, 0)))),
    el("td", {}, el("span", { class: "bench-small" }, "weight \u00d7 value"), el("strong", {}, vectorText(all.mixed))));
  return el("table", {}, el("thead", {}, el("tr", {}, head.map((text) => el("th", { scope: "col" }, text)))),
    el("tbody", {}, rows, foot));
}

const powerText = (x) => (x < 10000 ? number(x) : x.toExponential(1));

function weightBar(share) {
  const fill = el("div", { class: "bench-fill" });
  fill.style.width = `${100 * share}%`;
  return el("div", { class: "bench-bar", "aria-hidden": "true" }, fill);
}

// ---------------------------------------------------------------- the planes

const toPlane = (x, limit) => SIDE / 2 + (x / limit) * (SIDE / 2 - 10);

function planeGround(limit) {
  const at = (x) => toPlane(x, limit);
  const every = limit <= 3 ? 1 : Math.ceil(limit / 3);
  const lines = [];
  for (let x = -Math.floor(limit / every) * every; x <= limit; x += every) {
    const style = x === 0 ? "bench-axis" : "bench-grid";
    lines.push(el("line", { class: style, x1: at(x), x2: at(x), y1: 0, y2: SIDE }),
      el("line", { class: style, x1: 0, x2: SIDE, y1: at(x), y2: at(x) }));
    if (x) lines.push(planeText(at(x), SIDE / 2 + 13, number(x, 0), "middle", "bench-tick"),
      planeText(SIDE / 2 - 5, at(-x) + 4, number(x, 0), "end", "bench-tick"));
  }
  return lines;
}

function planeText(x, y, text, anchor, style) {
  return el("text", { x, y, "text-anchor": anchor, class: style }, text);
}

/** Return an arrow from the middle to (x, y), in the plane's pixels. */
function arrow(x, y, width, style) {
  const [dx, dy] = [x - SIDE / 2, y - SIDE / 2];
  const length = Math.hypot(dx, dy);
  const head = Math.min(7 + width, length);
  const [ux, uy] = length ? [dx / length, dy / length] : [1, 0];
  const [bx, by] = [x - ux * head, y - uy * head];
  const wing = head * 0.5;
  return el("g", { class: style },
    el("line", { x1: SIDE / 2, y1: SIDE / 2, x2: bx, y2: by, "stroke-width": width }),
    el("path", { d: `M${x} ${y}L${bx - uy * wing} ${by + ux * wing}L${bx + uy * wing} ${by - ux * wing}Z` }));
}

/** Return the plane of keys: {node, draw}; ondrag gets the query's new [x, y]. */
function keyPlane(tokens, keys, limit, ondrag) {
  const layer = el("g", {});
  const now = { query: [0, 0], held: false };
  const svg = el("svg", { viewBox: `0 0 ${SIDE} ${SIDE}`, class: "bench-svg bench-drag", tabindex: "0", role: "application",
    "aria-label": "plane with the keys as arrows and the query; the arrow keys move the query",
    onpointerdown: (event) => {
      event.preventDefault(); // no text is selected by the drag; the focus is then ours to set
      svg.focus({ preventScroll: true });
      now.held = true;
      svg.setPointerCapture(event.pointerId);
      move(event);
    },
    onpointermove: (event) => { if (now.held) move(event); },
    onpointerup: () => { now.held = false; }, onpointercancel: () => { now.held = false; },
    onkeydown: press }, planeGround(limit), layer);
  function move(event) {
    const box = svg.getBoundingClientRect();
    const value = (share) => ((share - 0.5) * SIDE / (SIDE / 2 - 10)) * limit;
    ondrag([value((event.clientX - box.left) / box.width), -value((event.clientY - box.top) / box.height)]);
  }
  function press(event) {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!way) return;
    event.preventDefault();
    const step = STEP * (event.shiftKey ? 10 : 2);
    ondrag(now.query.map((x, i) => x + way[i] * step));
  }
  function draw(query, all, name) {
    now.query = query;
    const at = (x) => toPlane(x, limit);
    const arrows = keys.map(([x, y], s) => el("g", {},
      arrow(at(x), at(-y), 1.5 + 7 * all.weights[s], `bench-key${all.masked[s] === -Infinity ? " bench-off" : ""}`),
      nameAt(at(x), at(-y), tokens[s], "bench-label")));
    const [x, y] = [at(query[0]), at(-query[1])];
    layer.replaceChildren(...arrows, arrow(x, y, 3, "bench-query"),
      el("circle", { class: "bench-handle", cx: x, cy: y, r: 11 }), nameAt(x, y + 1.5, `q of ${tokenFace(name)}`, "bench-qlabel", 15));
  }
  return { node: svg, draw };
}

/** Return a name just outside of an arrow's tip, inside the plane. */
function nameAt(x, y, text, style, away = 8) {
  const face = tokenFace(text).length > 12 ? `${tokenFace(text).slice(0, 11)}\u2026` : tokenFace(text);
  const half = face.length * 3.8;
  const below = y > SIDE / 2 + 1;
  return planeText(Math.max(half, Math.min(SIDE - half, x)),
    Math.max(12, Math.min(SIDE - 4, below ? y + away + 10 : y - away)), face, "middle", style);
}

/** Return the plane of values with their average: {node, draw}. */
function valuePlane(tokens, values) {
  const [low, high] = [Math.min(0, ...values.flat()), Math.max(0, ...values.flat())];
  const room = (high - low || 1) * 0.18;
  const at = (x) => 14 + ((x - low + room / 2) / (high - low + room || 1)) * (SIDE - 28);
  const up = (y) => SIDE - at(y);
  const layer = el("g", {});
  const corners = hullOf(values).map(([x, y]) => `${at(x)},${up(y)}`).join(" ");
  const svg = el("svg", { viewBox: `0 0 ${SIDE} ${SIDE}`, class: "bench-svg", role: "img", "aria-label": "plane of the values, with their average" },
    el("line", { class: "bench-axis", x1: at(0), x2: at(0), y1: 0, y2: SIDE }),
    el("line", { class: "bench-axis", x1: 0, x2: SIDE, y1: up(0), y2: up(0) }),
    el("polygon", { class: "bench-hull", points: corners }), layer);
  function draw({ weights, mixed }) {
    const [mx, my] = [at(mixed[0]), up(mixed[1])];
    layer.replaceChildren(
      ...values.map(([x, y], s) => el("line", { class: "bench-pull", x1: at(x), y1: up(y), x2: mx, y2: my, "stroke-width": 0.5 + 7 * weights[s] })),
      ...values.map(([x, y], s) => el("circle", { class: "bench-value", cx: at(x), cy: up(y), r: 4 + 12 * Math.sqrt(weights[s]) })),
      ...values.map(([x, y], s) => nameValue(at(x), up(y), tokens[s], weights[s])),
      el("circle", { class: "bench-mean", cx: mx, cy: my, r: 6 }),
      planeText(Math.max(40, Math.min(SIDE - 40, mx)), my + 20, vectorText(mixed), "middle", "bench-qlabel"));
  }
  return { node: svg, draw };
}

function nameValue(x, y, token, weight) {
  const face = tokenFace(token).slice(0, 12);
  const right = x < SIDE / 2;
  const off = 8 + 12 * Math.sqrt(weight);
  return planeText(right ? x + off : x - off, y + 4, `${face} ${number(weight)}`, right ? "start" : "end", "bench-label");
}
