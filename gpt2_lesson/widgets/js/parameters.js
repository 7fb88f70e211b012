// The parameter map: nested rectangles, each as large as the number of its parameters.

import { el, speaker, tableView } from "./core.js";

const SHORT = { qkv_proj: "qkv", out_proj: "out", up_proj: "up", down_proj: "down",
  tok_emb: "token embeddings", pos_emb: "position embeddings", ln_final: "final norm", ln_attn: "norm", ln_mlp: "norm" };

/** Return the sum of the leaves' counts. */
export const countOf = (leaves) => leaves.reduce((sum, leaf) => sum + leaf.count, 0);

/** Return leaves in groups of the same key, in their order: [[key, leaves], ...]. */
export function grouped(leaves, key) {
  const groups = new Map();
  for (const leaf of leaves) groups.set(key(leaf), [...(groups.get(key(leaf)) ?? []), leaf]);
  return [...groups];
}

/** Return the box cut into strips in proportion to `sizes`, across (along x) or down. */
export function strips(box, sizes, across) {
  const total = sizes.reduce((a, b) => a + b, 0) || 1;
  let done = 0;
  return sizes.map((size) => {
    const from = done / total;
    done += size;
    const part = size / total;
    return across ? { ...box, x: box.x + from * box.w, w: part * box.w }
      : { ...box, y: box.y + from * box.h, h: part * box.h };
  });
}

/** Return how many rows make `count` equal boxes in w x h nearest to squares. */
export function rowsFor(count, w, h) {
  let best = 1, least = Infinity;
  for (let rows = 1; rows <= count; rows++) {
    const columns = Math.ceil(count / rows);
    const uneven = count % rows ? 0.15 : 0;
    const off = Math.abs(Math.log((w / columns) / (h / rows))) + uneven;
    if (off < least) [best, least] = [rows, off];
  }
  return best;
}

/** Return all rectangles: {leaves: [{leaf, box}], frames: [{name, box, level}]}.
 *
 * Areas are in proportion to counts, without gaps. What stands before the blocks is a
 * column at the left (on top where the map is high), what stands after them one at the right.
 */
export function layout(leaves, w, h) {
  const out = { leaves: [], frames: [] };
  const wide = w >= h;
  const places = grouped(leaves, (leaf) => leaf.place);
  const blocks = places.filter(([name]) => name.startsWith("block "));
  const rest = places.filter(([name]) => !name.startsWith("block "));
  const first = blocks.length ? places.indexOf(blocks[0]) : places.length;
  const before = rest.filter((place) => places.indexOf(place) < first);
  const after = rest.filter((place) => !before.includes(place));
  const parts = [...before.map((place) => [place]), blocks, ...after.map((place) => [place])].filter((part) => part.length);
  const boxes = strips({ x: 0, y: 0, w, h }, parts.map((part) => countOf(part.flatMap(([, own]) => own))), wide);
  parts.forEach((part, i) => (part === blocks ? placeBlocks(part, boxes[i], out) : placeOne(part[0], boxes[i], out)));
  return out;
}

function placeOne([name, leaves], box, out) {
  out.frames.push({ name, box, level: 0 });
  strips(box, leaves.map((leaf) => leaf.count), box.w > box.h * 2)
    .forEach((own, i) => out.leaves.push({ leaf: leaves[i], box: own }));
}

function placeBlocks(blocks, box, out) {
  const rows = rowsFor(blocks.length, box.w, box.h);
  const lines = Array.from({ length: rows }, (_, r) =>
    blocks.slice(Math.round((r * blocks.length) / rows), Math.round(((r + 1) * blocks.length) / rows)));
  const size = (some) => countOf(some.flatMap(([, leaves]) => leaves));
  strips(box, lines.map(size), false).forEach((line, r) =>
    strips(line, lines[r].map((block) => size([block])), true).forEach((own, i) => placeBlock(lines[r][i], own, out)));
}

function placeBlock([name, leaves], box, out) {
  out.frames.push({ name, box, level: 0 });
  const branches = grouped(leaves, (leaf) => leaf.part);
  strips(box, branches.map(([, own]) => countOf(own)), true).forEach((own, i) => {
    out.frames.push({ name: branches[i][0], box: own, level: 1 });
    strips(own, branches[i][1].map((leaf) => leaf.count), false)
      .forEach((last, j) => out.leaves.push({ leaf: branches[i][1][j], box: last }));
  });
}

/** Return a count with commas. */
export const withCommas = (count) => String(count).replace(/\B(?=(\d{3})+$)/g, ",");

/** Return a fraction in percent, never rounded down to nothing. */
export function percent(count, total) {
  const share = (100 * count) / total;
  return share >= 0.1 ? `${share.toFixed(1)}%` : share >= 0.001 ? `${share.toFixed(3)}%` : "under 0.001%";
}

/** Return the name without its block's number, the same for all that are alike. */
export const kindOf = (leaf) => leaf.name.replace(/^blocks\.\d+\./, "");

/** Return what there is to say about one parameter. */
export function describeLeaf(leaf, leaves, total) {
  const alike = leaves.filter((one) => one !== leaf && kindOf(one) === kindOf(leaf) && one.place.startsWith("block"));
  const all = leaf.place.startsWith("block") && alike.length
    ? ` All ${alike.length + 1} blocks together: ${withCommas(countOf([leaf, ...alike]))}, ${percent(countOf([leaf, ...alike]), total)}.` : "";
  return `${leaf.name}: ${leaf.shape.length ? leaf.shape.map(withCommas).join(" \u00d7 ") : "one number"}${
    leaf.shape.length > 1 ? ` = ${withCommas(leaf.count)}` : leaf.shape.length ? "" : ""} parameters, ${percent(leaf.count, total)} of all.${all}`;
}

/** Fill `root` with the map. */
export async function mount(root, state) {
  const { leaves, total, tied, parts } = state;
  const now = { index: 0, boxes: [] };
  const said = speaker();
  const picture = el("g", {}), chosen = el("rect", { class: "param-chosen" });
  const svg = el("svg", { class: "param-map", tabindex: "0", role: "application",
    "aria-label": "map of all parameters; the arrow keys go from one to the next, page up and down from block to block",
    onpointermove: (event) => under(event), onpointerdown: (event) => under(event), onkeydown: press }, picture, chosen);
  const small = el("p", { class: "quiet" });
  const table = tableView("Table: all parameters", ["name", "shape", "count", "fraction"],
    () => [...leaves.map((leaf) => [leaf.name, leaf.shape.join(" \u00d7 "), withCommas(leaf.count), percent(leaf.count, total)]),
      ["all", "", withCommas(total), "100%"]]);
  root.replaceChildren(el("h2", {}, `${withCommas(total)} parameters`), legendOf(leaves, parts, total), svg, said, small,
    tied ? el("p", { class: "quiet" }, tied) : "", table);
  addEventListener("resize", draw);
  draw();
  root.dataset.ready = "";

  function under(event) {
    const box = svg.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    const index = now.boxes.findIndex(({ box: b }) => x >= b.x && x < b.x + b.w && y >= b.y && y < b.y + b.h);
    if (index >= 0) go(leaves.indexOf(now.boxes[index].leaf));
  }
  function press(event) {
    const next = { ArrowRight: now.index + 1, ArrowDown: now.index + 1, ArrowLeft: now.index - 1, ArrowUp: now.index - 1,
      Home: 0, End: leaves.length - 1, PageDown: otherPlace(1), PageUp: otherPlace(-1) }[event.key];
    if (next == null) return;
    event.preventDefault();
    go(Math.max(0, Math.min(leaves.length - 1, next)));
  }
  /** The parameter of the same kind in the next block, or the first one after it. */
  function otherPlace(way) {
    const own = leaves[now.index];
    for (let i = now.index + way; i >= 0 && i < leaves.length; i += way) {
      if (leaves[i].place === own.place) continue;
      const twin = leaves.findIndex((leaf) => leaf.place === leaves[i].place && kindOf(leaf) === kindOf(own));
      return twin >= 0 ? twin : leaves.findIndex((leaf) => leaf.place === leaves[i].place);
    }
    return now.index;
  }
  function go(index) {
    now.index = index;
    const { box } = now.boxes.find(({ leaf }) => leaf === leaves[index]);
    for (const [name, value] of Object.entries({ x: box.x, y: box.y, width: Math.max(box.w, 2), height: Math.max(box.h, 2) })) chosen.setAttribute(name, value);
    said.say(describeLeaf(leaves[index], leaves, total));
  }
  function draw() {
    const w = Math.max(280, root.clientWidth - 16);
    const h = w > 700 ? 430 : 560;
    svg.setAttribute("viewBox", `0 0 ${w} ${h}`);
    svg.style.height = `${h}px`;
    const { leaves: placed, frames } = layout(leaves, w, h);
    now.boxes = placed;
    picture.replaceChildren(...placed.map(leafBox), ...frames.map(frameBox), ...frames.map(frameName));
    const tiny = placed.filter(({ box }) => Math.min(box.w, box.h) < 1).map(({ leaf }) => leaf);
    const short = /^\d/.test(picture.querySelector(".param-title:not(:empty)")?.textContent ?? "");
    small.textContent = (short ? "Bold numbers count the blocks. " : "") + (tiny.length ? `Areas are in proportion. ${tiny.length} tensors (biases, norms) are thinner than a pixel here: `
      + `${withCommas(countOf(tiny))} parameters, ${percent(countOf(tiny), total)}. The arrow keys reach them too.` : "Areas are in proportion.");
    go(now.index);
  }
}

function leafBox({ leaf, box }) {
  const names = leaf.name.split(".");
  const own = names[names.length - 2] ?? leaf.name;
  const face = names[names.length - 1] === "bias" ? "" : SHORT[own] ?? own;
  const fits = face.length * 6.6 < box.w - 4 && box.h > 15;
  const turned = !fits && face.length * 6.6 < box.h - 4 && box.w > 15;
  const [x, y] = [box.x + box.w / 2, box.y + box.h / 2];
  return el("g", {}, el("rect", { class: `param-leaf param-${leaf.part}`, x: box.x, y: box.y, width: box.w, height: box.h }),
    fits || turned ? el("text", { class: "param-name", x, y: y + 4, "text-anchor": "middle",
      transform: turned ? `rotate(-90 ${x} ${y})` : null }, face) : null);
}

function frameBox({ box, level }) {
  return el("rect", { class: level ? "param-branch" : "param-block", x: box.x, y: box.y, width: box.w, height: box.h });
}

/** Return a block's name, or its number alone, that fits into the width of its first part. */
export function blockName(name, width) {
  return [name, name.replace("block ", "")].find((face) => face.length * 7.4 < width - 8) ?? "";
}

/** Return the name of a block over the first of its parts that is no mere line. */
function frameName({ name, box, level }, at, frames) {
  if (level || !/^block \d+$/.test(name) || box.h < 45) return "";
  const part = frames.slice(at + 1).find((frame) => frame.box.w > 10);
  return el("text", { class: "param-title", x: box.x + 5, y: box.y + 15 }, blockName(name, part?.box.w ?? 0));
}

/** Return the parts' counts and fractions, each with its colour. */
function legendOf(leaves, parts, total) {
  return el("ul", { class: "param-legend" }, parts.map((part) => {
    const count = countOf(leaves.filter((leaf) => leaf.part === part));
    return el("li", {}, el("span", { class: `param-key param-${part}`, "aria-hidden": "true" }),
      el("strong", {}, part), ` ${withCommas(count)} `, el("span", { class: "quiet" }, `(${count < total / 1000 ? "under 0.1%" : percent(count, total)})`));
  }));
}
