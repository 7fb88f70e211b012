import assert from "node:assert/strict";
import test from "node:test";
import {
  attendOne, benchSentence, fraction, hullOf, reach,
} from "../../../gpt2_lesson/widgets/js/numbers/arithmetic.js";

const near = (a, b) => a.forEach((x, i) => assert.ok(Math.abs(x - b[i]) < 1e-12, `${a} is not ${b}`));
const keys = [[0, 1], [Math.log(2), -1], [Math.log(3), 0.5]];
const values = [[6, 0], [0, 6], [6, 6]];
const query = [Math.SQRT2, 0];

test("scaled scores ln 1, ln 2, ln 3 give 1/6, 1/3, 1/2 and the average [4, 5]", () => {
  const all = attendOne(query, keys, values);
  near(all.powers, [1, 2, 3]);
  near(all.weights, [1 / 6, 1 / 3, 1 / 2]);
  near(all.mixed, [4, 5]);
});

test("masked for the second token, a third and two thirds are left", () => {
  const all = attendOne(query, keys, values, { mask: true, asks: 1 });
  near(all.weights, [1 / 3, 2 / 3, 0]);
  near(all.mixed, [2, 4]);
});

test("without the root the weights are sharper, and still add up to 1", () => {
  const [on, off] = [true, false].map((root) => attendOne(query, keys, values, { root }).weights);
  assert.ok(Math.max(...off) > Math.max(...on));
  near([off.reduce((a, b) => a + b)], [1]);
});

test("fractions are named only where they are exact", () => {
  assert.deepEqual([1 / 6, 2 / 3, 0.5, 0.501, 1, 0].map(fraction), ["1/6", "2/3", "1/2", "", "", ""]);
});

test("the values' hull has their corners, not what lies inside or on an edge", () => {
  assert.deepEqual(hullOf([[6, 0], [0, 6], [6, 6]]), [[0, 6], [6, 0], [6, 6]]);
  assert.deepEqual(hullOf([[0, 0], [4, 0], [2, 1], [2, 0], [4, 4], [0, 4]]), [[0, 0], [4, 0], [4, 4], [0, 4]]);
  assert.deepEqual(hullOf([[1, 1]]), [[1, 1]]);
});

test("the plane holds all points", () => {
  assert.equal(reach([[1, -1.2]]), 2);
  assert.ok(reach([[0, -7.9]]) > 7.9);
});

test("the sentence names a query of zeros' plain mean, and what is hidden", () => {
  const all = attendOne([0, 0], keys, values);
  assert.match(benchSentence(["a", "b", "c"], [0, 0], all, { asks: 2, mask: false }), /plain mean; .*\[4.00, 4.00\]/);
  const hidden = attendOne(query, keys, values, { mask: true, asks: 0 });
  assert.match(benchSentence(["a", "b", "c"], query, hidden, { asks: 0, mask: true }), /2 later tokens are hidden/);
});
