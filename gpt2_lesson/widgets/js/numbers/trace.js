// One token's way through the blocks, as numbers and in a sentence.

import { unpackBytes, unpackFloats, unpackShares } from "./packing.js";
import { probText, tokenName } from "./text.js";

/** Return the state with its numbers unpacked. */
export async function traceData(state) {
  const [lens, probs, nextProbs, norms, keys, heads, weights] = await Promise.all([
    unpackBytes(state.lens), unpackShares(state.probs), unpackFloats(state.next_probs),
    unpackFloats(state.norms), unpackBytes(state.keys), unpackBytes(state.heads),
    unpackShares(state.weights)]);
  return {
    ...state, probs, nextProbs, norms, weights, lens: new Uint32Array(lens.buffer),
    keys: new Uint16Array(keys.buffer), heads: new Uint16Array(heads.buffer),
  };
}

/** Return {position, token, next, last, layers: [...]} of one token, from all numbers. */
export function traceOf(data, position) {
  const { tokens, blocks } = data;
  const layers = Array.from({ length: blocks + 1 }, (_, floor) => ({
    name: floor === 0 ? "embedding" : `after layer ${floor - 1}`,
    readings: readingsAt(data, floor, position),
    nextProbs: data.nextProbs[floor * tokens.length + position],
    ...(floor === 0 ? {} : blockAt(data, floor - 1, position)),
  }));
  const last = position === tokens.length - 1;
  return { position, token: tokens[position], next: data.next[position], last, layers };
}

/** Return the most probable next tokens [{name, probs, hit}] after `floor` blocks.
 *
 * `hit`: it is the token that comes next; that goes by place, as names may be shared.
 */
function readingsAt({ tokens, names, lens, probs, top_k: count, next_reading: next }, floor, position) {
  const from = (floor * tokens.length + position) * count;
  return Array.from({ length: count }, (_, i) => ({
    name: names[lens[from + i]], probs: probs[from + i], hit: lens[from + i] === next[position] }));
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
  const what = last ? "its own answer (the text ends here)" : "which came next";
  return `Position ${position}, ${face(token)}: at the embedding the logit lens reads `
    + `${face(start.readings[0].name)} (${probText(start.readings[0].probs)}). `
    + `${face(next)}, ${what}, goes from ${probText(start.nextProbs)} to ${probText(end.nextProbs)}`
    + (settled < 0 ? `; the model's answer is ${face(end.readings[0].name)}.`
      : settled === 0 ? " and leads all the way." : ` and leads for good ${where(settled)}.`);
}
