import assert from "node:assert/strict";
import { test } from "node:test";
import { ablationSentence, headChanges } from "../../../gpt2_lesson/widgets/js/numbers/ablation.js";
import { placeIn } from "../../../gpt2_lesson/widgets/js/numbers/colours.js";
import { mostRead } from "../../../gpt2_lesson/widgets/js/numbers/probabilities.js";

const state = { was: Math.log(0.5), now: [[Math.log(0.25), Math.log(0.5)]], target: [" mat"], baseline: [] };

test("changes are in nats, and told in words", () => {
  const [cut, same] = headChanges(state);
  assert.ok(Math.abs(cut.change + Math.LN2) < 1e-12);
  assert.equal(ablationSentence(cut, state),
    "Without layer 0 head 0 the probability of '\u2423mat' falls from 0.500 to 0.250 (ln p: \u22120.69 nats).");
  assert.match(ablationSentence(same, state), /hardly changes: 0.500 before, 0.500 without it \(ln p: 0.00 nats/);
});

test("against a baseline it is a ratio of probabilities", () => {
  const two = { was: Math.log(4), now: [[Math.log(0.5)]], target: ["a"], baseline: ["b"] };
  assert.match(ablationSentence(headChanges(two)[0], two), /against 'b' falls from 4.00 : 1 to 1 : 2.00/);
});

test("colours: none in the middle, the largest at the ends", () => {
  assert.deepEqual([-2, 0, 2].map((x) => placeIn(x, { top: 2, signed: true })), [0, 0.5, 1]);
});

test("the most read token is the first of the largest weights", () => {
  assert.deepEqual(mostRead([0.25, 0.5, 0.5]), { key: 1, weight: 0.5 });
});
