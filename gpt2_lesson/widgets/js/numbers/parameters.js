// The parameter map: rectangles in proportion to counts, and their words.

import { withCommas } from "./text.js";

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

/** Return a block's name, or its number alone, that fits into the width of its first part. */
export function blockName(name, width) {
  return [name, name.replace("block ", "")].find((face) => face.length * 7.4 < width - 8) ?? "";
}
