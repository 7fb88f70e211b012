// One query's attention, from scores to the average, and its geometry.

import { softmax } from "./probabilities.js";
import { number, tokenName, vectorText } from "./text.js";

/** Return all numbers of one query's attention; `asks` is its place, for the mask. */
export function attendOne(query, keys, values, { root = true, mask = false, asks = 0 } = {}) {
  const scores = keys.map((key) => key.reduce((sum, x, i) => sum + x * query[i], 0));
  const scaled = root ? scores.map((x) => x / Math.sqrt(query.length)) : scores;
  const masked = scaled.map((x, s) => (mask && s > asks ? -Infinity : x));
  const weights = softmax(masked);
  const parts = values.map((value, s) => value.map((x) => weights[s] * x));
  const mixed = values[0].map((_, i) => parts.reduce((sum, part) => sum + part[i], 0));
  return { scores, scaled, masked, powers: masked.map(Math.exp), weights, parts, mixed };
}

/** Return "1/6" for a number that is such a fraction of whole numbers, else "". */
export function fraction(x) {
  for (let below = 2; below <= 12; below++) {
    const above = Math.round(x * below);
    if (above > 0 && above < below && Math.abs(x * below - above) < 1e-6) return `${above}/${below}`;
  }
  return "";
}

/** Return half the side of a square around 0 that holds all points with some room. */
export function reach(points) {
  const far = Math.max(...points.flat().map(Math.abs), 0.5);
  return far <= 1.6 ? 2 : Math.ceil(far * 1.25);
}

/** Return the corners of the smallest convex shape that holds all points, in its order. */
export function hullOf(points) {
  const sorted = points.toSorted(([ax, ay], [bx, by]) => ax - bx || ay - by);
  const left = ([ax, ay], [bx, by], [cx, cy]) => (bx - ax) * (cy - ay) - (by - ay) * (cx - ax) > 0;
  const half = (row) => row.reduce((kept, point) => {
    while (kept.length > 1 && !left(kept.at(-2), kept.at(-1), point)) kept.pop();
    return [...kept, point];
  }, []).slice(0, -1);
  return sorted.length < 3 ? sorted : [...half(sorted), ...half(sorted.toReversed())];
}

/** Return what happens, in a sentence. */
export function benchSentence(tokens, query, all, { asks, mask }) {
  const best = all.weights.indexOf(Math.max(...all.weights));
  const hidden = mask && asks < tokens.length - 1
    ? ` ${tokens.length - 1 - asks} later ${tokens.length - asks === 2 ? "token is" : "tokens are"} hidden.` : "";
  const even = Math.max(...all.weights) - Math.min(...all.weights) < 1e-9;
  const most = even ? "All keys match alike, so the average is the plain mean"
    : `The largest weight, ${number(all.weights[best])}, is for \u201c${tokenName(tokens[best])}\u201d`;
  return `\u201c${tokenName(tokens[asks])}\u201d asks with ${vectorText(query)}. ${most}; the average of the values is ${vectorText(all.mixed)}.${hidden}`;
}
