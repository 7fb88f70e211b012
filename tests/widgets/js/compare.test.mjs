import assert from "node:assert/strict";
import test from "node:test";
import { placeIn, scaleOf } from "../../../gpt2_lesson/widgets/js/numbers/colours.js";
import { cellsDiffer, mapName, stageWords } from "../../../gpt2_lesson/widgets/js/numbers/compare.js";
import { sixDigits } from "../../../gpt2_lesson/widgets/js/numbers/text.js";

test("cells differ beyond the tolerance, or where one is no number", () => {
  assert.deepEqual([-1e-5, -0.1, NaN, -Infinity, 0].map((apart) => cellsDiffer(apart, 1e-4)),
    [false, true, true, true, false]);
});

test("a scale comes from finite numbers, and knows about signs", () => {
  assert.deepEqual(scaleOf([NaN, -Infinity, 3, -4]), { top: 4, signed: true });
  assert.deepEqual(scaleOf([]), { top: 1, signed: false });
  assert.equal(placeIn(-4, { top: 4, signed: true }), 0);
  assert.equal(placeIn(-Infinity, { top: 4, signed: true }), null);
});

test("numbers and names in words", () => {
  assert.equal(sixDigits(-0.12345678), "\u22120.123457");
  assert.equal(sixDigits(-Infinity), "\u2212\u221e");
  assert.equal(mapName(["batch", "head", "row", "column"], [0, 2]), "batch 0, head 2");
  assert.equal(stageWords({ differs: true, largest: "infinite" }), "differs: NaN or infinity on one side");
  assert.equal(stageWords({ differs: false, largest: 0 }), "equal");
  assert.equal(stageWords({ reason: "yours lacks this stage" }), "yours lacks this stage");
});
