import assert from "node:assert/strict";
import { test } from "node:test";
import {
  draw, entropy, generator, likeliestFirst, nextOdds, topKSteps,
} from "../../gpt2_lesson/widgets/js/sampling.js";

const odds = [32, 16, 16, 8, 4, 2, 1, 1, 0.25];
const logits = Float32Array.from(odds, Math.log);
const near = (got, wanted) => wanted.forEach((x, i) => assert.ok(Math.abs(got[i] - x) < 1e-6, `${got}`));

test("the lesson's worked examples", () => {
  near(nextOdds(logits).odds, odds.map((x) => x / 80.25));
  near(nextOdds(logits, 1, 2).odds, [0.5, 0.25, 0.25, 0]);
  near(nextOdds(logits, 1, null, 0.5).odds, [2 / 3, 1 / 3, 0]);
  near(nextOdds(logits, 0, 5, 0.1).odds, [1, 0, 0]);
});

test("mass and tokens left are those of the cut", () => {
  const { left, mass } = nextOdds(logits, 1, 2);
  assert.equal(left, 3);
  assert.ok(Math.abs(mass - 64 / 80.25) < 1e-6);
});

test("the same seed draws the same, and as often as the odds say", () => {
  const { odds: p } = nextOdds(logits, 1, 2);
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

test("entropy of equal odds is ln of their number; ties keep their order", () => {
  assert.ok(Math.abs(entropy(new Float32Array(8).fill(1 / 8)) - Math.log(8)) < 1e-6);
  assert.deepEqual([...likeliestFirst(Float32Array.of(1, 2, 2, 0))], [1, 2, 0, 3]);
});

test("top-k steps: all small ones, the wanted one, and the whole vocabulary", () => {
  const steps = topKSteps(50257, 37);
  for (const k of [1, 2, 19, 20, 37, 50257]) assert.ok(steps.includes(k), String(k));
  assert.ok(steps.length < 100);
  assert.deepEqual(topKSteps(3), [1, 2, 3]);
});
