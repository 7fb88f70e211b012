import assert from "node:assert/strict";
import { test } from "node:test";
import { settledAt, traceOf, traceSentence } from "../../../gpt2_lesson/widgets/js/numbers/trace.js";

// Two tokens, one block with two heads looking, the two most probable next tokens.
const data = {
  tokens: ["a", " "], next: [" ", "b"], next_reading: [0, 1], names: [" ", "b", "c"], blocks: 1, captured: [0],
  top_k: 2, looks: 2,
  lens: [2, 0, 1, 2, 0, 1, 1, 0], probs: [0.6, 0.3, 0.5, 0.4, 0.8, 0.1, 0.9, 0.05],
  nextProbs: [0.3, 0.5, 0.8, 0.9], norms: [1, 2, 3, 4, 5, 6],
  keys: [0, 0, 1, 0], heads: [1, 0, 0, 1], weights: [1, 1, 0.75, 0.5],
};

test("each number is taken from its own place", () => {
  const [start, block] = traceOf(data, 1).layers;
  assert.deepEqual(start.readings, [{ name: "b", probs: 0.5, hit: true }, { name: "c", probs: 0.4, hit: false }]);
  assert.equal(block.nextProbs, 0.9);
  assert.deepEqual([block.stream, block.attention, block.mlp], [2, 4, 6]);
  assert.deepEqual(block.looks, [{ head: 0, key: 1, weight: 0.75 }, { head: 1, key: 0, weight: 0.5 }]);
});

test("a layer that was not captured has no looks", () => {
  assert.equal(traceOf({ ...data, captured: [] }, 0).layers[1].looks, null);
});

test("the sentence says from where on the lens is right", () => {
  assert.equal(settledAt(traceOf(data, 0)), 1);
  assert.equal(traceSentence(traceOf(data, 0)), "Position 0, 'a': at the embedding the logit lens reads 'c' (0.600). "
    + "'space', which came next, goes from 0.300 to 0.800 and leads for good after layer 0.");
  assert.match(traceSentence(traceOf(data, 1)), /ends here.* leads all the way/);
});
