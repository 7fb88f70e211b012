import assert from "node:assert/strict";
import test from "node:test";
import {
  meterText, placeOf, rowSum, spanOf, stackedMaps, valueAt,
} from "../../../gpt2_lesson/widgets/js/numbers/frames.js";
import { mostRead } from "../../../gpt2_lesson/widgets/js/numbers/probabilities.js";
import { shortNumber } from "../../../gpt2_lesson/widgets/js/numbers/text.js";

test("stacked maps are read in the order setting, map, row, column", () => {
  const get = stackedMaps(Float32Array.from({ length: 2 * 3 * 4 }, (_, i) => i), 3, 2);
  assert.equal(get(1, 2, 1, 0), ((1 * 3 + 2) * 2 + 1) * 2);
});

test("the span of a map leaves out what is no number, and holds 0", () => {
  const get = stackedMaps([NaN, 2, Infinity, 3], 1, 2);
  assert.deepEqual(spanOf(get, 1, 0, 2), { low: 0, high: 3 });
});

test("a share keeps its place, a signed value lies about the middle, NaN stays NaN", () => {
  assert.equal(placeOf(0.25, true, { low: 0, high: 9 }), 0.25);
  assert.equal(placeOf(-2, false, { low: -2, high: 1 }), 0);
  assert.equal(placeOf(0, false, { low: -2, high: 1 }), 0.5);
  assert.ok(Number.isNaN(placeOf(NaN, true, { low: 0, high: 1 })));
  assert.equal(placeOf(-Infinity, false, { low: 0, high: 1 }), null);
});

test("a row with a NaN has no sum", () => {
  assert.equal(rowSum((s) => [0.25, 0.75][s], 2), 1);
  assert.ok(Number.isNaN(rowSum((s) => [0.25, NaN][s], 2)));
});

test("the meter says none only for exactly 0", () => {
  assert.equal(meterText(0), "none (exactly 0)");
  assert.equal(meterText(1e-9), "1.0e\u22129");
  assert.equal(meterText(null), "not a number");
  assert.equal(shortNumber(2.9179), "2.918");
});

test("between two points a curve is straight, and says that it is not exact", () => {
  assert.deepEqual(valueAt([0, 10], [4, 2], 10), { y: 2, exact: true });
  assert.deepEqual(valueAt([0, 10], [4, 2], 5), { y: 3, exact: false });
  assert.equal(valueAt([0, 10], [4, 2], 11), null);
});

test("only keys up to the query count for the most seen one", () => {
  assert.deepEqual(mostRead([0.1, 0.6, 0.3]), { key: 1, weight: 0.6 });
});
