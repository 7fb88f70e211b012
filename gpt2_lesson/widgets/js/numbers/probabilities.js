// From logits to next-token probabilities, and to a token: lesson 06, step by step.

const f32 = Math.fround; // PyTorch reckons in float32: so do we, or ties would fall apart

// ---------------------------------------------------------------- the probabilities

/** Return {probs, tempered, left, mass}: lesson 06's next_probabilities, step by step.
 *
 * `probs` are what is drawn from; `tempered` those before the cuts; `left` counts the
 * tokens that can be drawn, `mass` is their part of the probabilities `tempered`.
 */
export function nextProbs(logits, temperature = 1, topK = null, topP = null) {
  const best = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const scaled = temperature === 0 ? greedy(logits, best)
    : logits.map((x) => f32(f32(x - best) / f32(temperature)));
  const tempered = softmax32(scaled);
  let probs = tempered;
  if (temperature > 0 && topK != null) probs = softmax32(keepTopK(scaled, topK));
  if (temperature > 0 && topP != null) probs = keepTopP(probs, topP);
  let left = 0, mass = 0;
  probs.forEach((p, i) => { if (p > 0) { left += 1; mass += tempered[i]; } });
  return { probs, tempered, left, mass: Math.min(mass, 1) };
}

/** Return 0 for the first of the largest logits, minus infinity for all others. */
function greedy(logits, best) {
  const winner = logits.indexOf(best);
  return logits.map((_, i) => (i === winner ? 0 : -Infinity));
}

/** Return softmax of numbers; -Infinity gives 0. */
export function softmax(scores) {
  const top = Math.max(...scores);
  const powers = scores.map((s) => Math.exp(s - top));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((p) => p / sum);
}

/** Return softmax of float32 numbers whose largest is 0. */
function softmax32(scaled) {
  const powers = scaled.map((x) => Math.exp(x));
  const sum = f32(powers.reduce((a, b) => a + b, 0));
  return powers.map((p) => p / sum);
}

/** Return the logits with those below the k-th at minus infinity; ties with it stay. */
function keepTopK(scaled, k) {
  const sorted = scaled.slice().sort();
  const kth = sorted[sorted.length - Math.min(k, sorted.length)];
  return scaled.map((x) => (x < kth ? -Infinity : x));
}

/** Return probabilities cut to the fewest most probable tokens that hold `share`, renormalised. */
function keepTopP(probs, share) {
  const kept = new Float32Array(probs.length);
  let before = 0;
  for (const i of mostProbableFirst(probs)) {
    const upTo = before + probs[i];
    if (f32(f32(upTo) - probs[i]) < f32(share)) kept[i] = probs[i];
    before = upTo;
  }
  const sum = f32(kept.reduce((a, b) => a + b, 0));
  return kept.map((p) => p / sum);
}

/** Return the places of the values, largest first; of equal ones the earlier first. */
export function mostProbableFirst(values) {
  return Uint32Array.from(values.keys()).sort((a, b) => values[b] - values[a] || a - b);
}

/** Return the places of the `count` largest values, as an array. */
export const largestPlaces = (values, count) => Array.from(mostProbableFirst(values).slice(0, count));

/** Return the key with the largest weight, and that weight, from one row of weights. */
export function mostRead(row) {
  return row.reduce((best, weight, key) => (weight > best.weight ? { key, weight } : best),
    { key: 0, weight: -1 });
}

/** Return the entropy of probabilities in nats. */
export function entropy(probs) {
  return probs.reduce((sum, p) => (p > 0 ? sum - p * Math.log(p) : sum), 0);
}

// ---------------------------------------------------------------- drawing

/** Return a function that gives numbers in 0..1, the same ones for the same seed. */
export function generator(seed) {
  let state = seed >>> 0;
  return () => { // mulberry32
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Return a place sampled with these probabilities; `random` gives numbers in 0..1. */
export function draw(probs, random) {
  let rest = random() * probs.reduce((a, b) => a + b, 0);
  let last = 0;
  for (let i = 0; i < probs.length; i++) {
    if (probs[i] === 0) continue;
    rest -= probs[i];
    last = i;
    if (rest < 0) break;
  }
  return last;
}

/** Return the steps of the top-k slider: all small k, then larger and larger steps. */
export function topKSteps(size, wanted = null) {
  const steps = new Set([size]);
  for (let k = 1; k < size; k = k < 20 ? k + 1 : Math.ceil(k * 1.15)) steps.add(k);
  if (wanted != null) steps.add(Math.min(wanted, size));
  return [...steps].sort((a, b) => a - b);
}

/** Return the end of a scale for bars of 0..1: a round number none of them passes. */
export function scaleTop(shares) {
  const most = Math.max(...shares);
  return [0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9].find((top) => most <= top) ?? 1;
}
