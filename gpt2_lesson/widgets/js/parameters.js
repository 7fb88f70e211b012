// The parameter map: nested rectangles, each as large as the number of its parameters.

import { el, speaker, tableView } from "./core.js";
import { blockName, countOf, describeLeaf, kindOf, layout, percent } from "./numbers/parameters.js";
import { withCommas } from "./numbers/text.js";

const SHORT = { qkv_proj: "qkv", out_proj: "out", up_proj: "up", down_proj: "down",
  tok_emb: "token embeddings", pos_emb: "position embeddings", ln_final: "final norm", ln_attn: "norm", ln_mlp: "norm" };

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
