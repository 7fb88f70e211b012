import assert from "node:assert/strict";
import { test } from "node:test";
import {
  draw, entropy, generator, mostProbableFirst, nextProbs, topKSteps,
} from "../../../gpt2_lesson/widgets/js/numbers/probabilities.js";

const probs = [32, 16, 16, 8, 4, 2, 1, 1, 0.25];
const logits = Float32Array.from(probs, Math.log);
const near = (got, wanted) => wanted.forEach((x, i) => assert.ok(Math.abs(got[i] - x) < 1e-6, `${got}`));

test("the lesson's worked examples", () => {
  near(nextProbs(logits).probs, probs.map((x) => x / 80.25));
  near(nextProbs(logits, 1, 2).probs, [0.5, 0.25, 0.25, 0]);
  near(nextProbs(logits, 1, null, 0.5).probs, [2 / 3, 1 / 3, 0]);
  near(nextProbs(logits, 0, 5, 0.1).probs, [1, 0, 0]);
});

test("mass and tokens left are those of the cut", () => {
  const { left, mass } = nextProbs(logits, 1, 2);
  assert.equal(left, 3);
  assert.ok(Math.abs(mass - 64 / 80.25) < 1e-6);
});

test("the same seed draws the same, and as often as the probabilities say", () => {
  const { probs: p } = nextProbs(logits, 1, 2);
  const [one, two] = [generator(6), generator(6)];
  const counts = new Array(9).fill(0);
  for (let i = 0; i < 20000; i++) {
    const id = draw(p, one);
    assert.equal(id, draw(p, two));
    counts[id] += 1;
  }
  near(counts.slice(3), [0, 0, 0, 0, 0, 0]);
  assert.ok(Math.abs(counts[0] / 20000 - 0.5) < 0.012, String(counts));
});

test("entropy of equal probabilities is ln of their number; ties keep their order", () => {
  assert.ok(Math.abs(entropy(new Float32Array(8).fill(1 / 8)) - Math.log(8)) < 1e-6);
  assert.deepEqual([...mostProbableFirst(Float32Array.of(1, 2, 2, 0))], [1, 2, 0, 3]);
});

test("top-k steps: all small ones, the wanted one, and the whole vocabulary", () => {
  const steps = topKSteps(50257, 37);
  for (const k of [1, 2, 19, 20, 37, 50257]) assert.ok(steps.includes(k), String(k));
  assert.ok(steps.length < 100);
  assert.deepEqual(topKSteps(3), [1, 2, 3]);
});
