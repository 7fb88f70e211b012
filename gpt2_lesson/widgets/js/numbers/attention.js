// Attention maps: rows by measure, the largest weights, the names of heads.

import { unpackLevels, unpackTriangles } from "./packing.js";
import { largestPlaces } from "./probabilities.js";
import { number, tokenName } from "./text.js";

/** Return all that `state` holds, unpacked: weights(map, t, s), totals, sizes. */
export async function readMaps(state) {
  const size = state.tokens.length;
  const [maps, totals, sizes] = await Promise.all([
    unpackTriangles(state.weights, size), unpackLevels(state.totals), unpackLevels(state.sizes)]);
  return { size, totals, sizes, exact: maps.exact, levels: maps.levels, weights: maps.get, tokens: state.tokens,
    layers: state.layers, heads: state.heads };
}

/** Return the row of query t in one map, by one measure: t + 1 numbers. */
export function headRow(data, map, t, measure) {
  const row = new Float64Array(t + 1);
  for (let s = 0; s <= t; s++) row[s] = data.weights(map, t, s);
  if (measure === "scores") return row.map((w) => Math.log(w) + data.totals[map * data.size + t]);
  if (measure === "weights") return row;
  const brought = row.map((w, s) => w * data.sizes[map * data.size + s]);
  const sum = brought.reduce((a, b) => a + b, 0);
  return sum > 0 ? brought.map((x) => x / sum) : brought;
}

/** Return the row of query t that is asked for: of one head, or of all the layer's. */
export function chosenRow(data, { layer, head, over, measure }, t) {
  const count = data.heads.length;
  if (over === "one") return headRow(data, layer * count + head, t, measure);
  const rows = data.heads.map((_, h) => headRow(data, layer * count + h, t, measure));
  const mixed = new Float64Array(t + 1);
  for (const row of rows) {
    for (let s = 0; s <= t; s++) mixed[s] = over === "largest" ? Math.max(mixed[s], row[s]) : mixed[s] + row[s] / count;
  }
  return mixed;
}

/** Return the part of a row that is not in `places`.
 *
 * A row adds up to 1. Where the stored numbers agree with that within what their few
 * bits lose, the rest is what is left of 1; else it is their own sum.
 */
export function restOf(row, places, { exact, levels }) {
  const sum = row.reduce((a, b) => a + b, 0);
  const lost = row.reduce((a, w) => a + (exact ? 0.51 / levels : Math.sqrt(w) / levels + 0.26 / levels ** 2), 0);
  const top = places.reduce((a, s) => a + row[s], 0);
  return Math.max(0, (Math.abs(sum - 1) <= lost ? 1 : sum) - top);
}

/** Return a map (size × size triangle) as side × side numbers: the largest of each block. */
export function poolMap(data, map, side) {
  const pooled = new Float32Array(side * side);
  const block = Uint16Array.from({ length: data.size }, (_, t) => Math.floor((t * side) / data.size));
  for (let t = 0; t < data.size; t++) {
    for (let s = 0; s <= t; s++) {
      const at = block[t] * side + block[s];
      const weight = data.weights(map, t, s);
      if (weight > pooled[at]) pooled[at] = weight;
    }
  }
  return pooled;
}

/** Return all maps as `poolMap` does; between layers the page may breathe. */
export async function poolMaps(data, side) {
  const pooled = [];
  for (let map = 0; map < data.layers.length * data.heads.length; map++) {
    pooled.push(poolMap(data, map, side));
    if ((map + 1) % data.heads.length === 0) await new Promise((go) => setTimeout(go));
  }
  return pooled;
}

/** Return the heads (their places) that come first by a label's scores. */
export function bestHeads(label, count) {
  return label?.scores ? largestPlaces(label.scores, count) : [];
}

/** Return whether a head is named by a label. */
export function isNamed(label, map) {
  return Boolean(label.scores) && label.scores[map] >= label.threshold;
}

/** Return the names that a head has earned, the surest first: [{name, score}]. */
export function namesOf(labels, map) {
  return labels.filter((label) => isNamed(label, map))
    .map((label) => ({ name: label.name, score: label.scores[map] }))
    .sort((a, b) => b.score - a.score);
}

/** Return the name that a head comes nearest to, {name, score}, or undefined. */
export function nearestName(labels, map) {
  const scored = labels.filter((label) => label.scores && label.name !== "broad")
    .map((label) => ({ name: label.name, score: label.scores[map], part: label.scores[map] / label.threshold }));
  return scored.sort((a, b) => b.part - a.part)[0];
}

/** Return a fraction as text: as many digits as it has. */
export function shareText(value, { exact, levels }, digits = 4) {
  if (exact) return number(value, digits);
  return number(value, Math.sqrt(value) / levels < 1.5e-3 ? 3 : 2, true);
}

/** Return a score as text; of a weight stored as 0 only a bound is known. */
export function scoreText(score, total, { exact, levels }) {
  const weight = Math.exp(score - total);
  const smallest = exact ? 0.5 / levels : (0.5 / levels) ** 2;
  if (weight < smallest) return `below ${number(Math.log(smallest) + total, 1)}`;
  return exact && weight > 1e-3 ? number(score) : number(score, 1, true);
}

/** Return a token for a sentence: “mat” (token 2), or newline (token 0). */
export function spoken(tokens, place) {
  const blank = tokens[place].trim() === "";
  const name = tokenName(blank ? tokens[place] : tokens[place].trim());
  return `${blank ? name : `“${name}”`} (token ${place})`;
}

/** Return the name of the map that is shown. */
export function whichHead(data, { layer, head, over }) {
  const named = `layer ${data.layers[layer]}`;
  if (over === "one") return `${named} head ${data.heads[head]}`;
  return `${named}, ${over} of ${data.heads.length} heads`;
}

/** Return the sentence that says what the query attends to. */
export function saying(data, pick, t, row) {
  const [key] = largestPlaces(row, 1);
  const target = key === t ? "itself" : spoken(data.tokens, key);
  const map = pick.layer * data.heads.length + pick.head;
  const asker = `${whichHead(data, pick)}: ${spoken(data.tokens, t)}`;
  if (pick.measure === "scores") {
    const score = scoreText(row[key], data.totals[map * data.size + t], data);
    return `${asker} gives its highest score to ${target}, ${score}.`;
  }
  const verb = pick.measure === "weights" ? "attends most to" : "gets most from";
  return `${asker} ${verb} ${target}, ${shareText(row[key], data, 2)}.`;
}

export const scoreLimit = (row) => row.reduce((top, x) => (Number.isFinite(x) ? Math.max(top, Math.abs(x)) : top), 1e-9);

export const signedAt = (x, limit) => 0.5 + 0.5 * Math.max(-1, Math.min(1, x / limit));
