import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import {
  bestHeads, chosenRow, headRow, namesOf, nearestName, poolMap, readMaps, restOf, saying, scoreText, shareText, spoken,
} from "../../../gpt2_lesson/widgets/js/numbers/attention.js";
import { largestPlaces } from "../../../gpt2_lesson/widgets/js/numbers/probabilities.js";

const path = process.env.GPT2_LESSON_FIXTURE;
const options = { skip: path ? false : "pytest tests/widgets/test_js.py writes the numbers" };
const fixture = path ? JSON.parse(readFileSync(path, "utf8")) : null;
const exact = { exact: true, levels: 65535 };
const coarse = { exact: false, levels: 255 };

test("weights, scores and value-weighted shares are the model's", options, async () => {
  const data = await readMaps(fixture.state);
  for (let map = 0; map < 6; map++) {
    const name = `${Math.floor(map / 3)}.${map % 3}`;
    const weights = fixture.maps[Math.floor(map / 3)][map % 3];
    for (let t = 0; t < data.size; t++) {
      const rows = ["weights", "scores", "value-weighted"].map((measure) => headRow(data, map, t, measure));
      for (let s = 0; s <= t; s++) {
        assert.ok(Math.abs(rows[0][s] - weights[t][s]) < 1e-5);
        if (weights[t][s] > 1e-3) assert.ok(Math.abs(rows[1][s] - fixture.scores[name][t][s]) < 0.01, `${name} ${t} ${s}`);
        assert.ok(Math.abs(rows[2][s] - fixture.brought[name][t][s]) < 1e-3, `${name} ${t} ${s}`);
      }
      assert.ok(Math.abs(rows[2].reduce((a, b) => a + b) - 1) < 1e-9);
    }
  }
});

test("average and largest of the layer's heads", options, async () => {
  const data = await readMaps(fixture.state);
  const [first, second, third] = fixture.maps[1].map((map) => map[8]);
  const pick = { layer: 1, head: 0, measure: "weights" };
  const average = chosenRow(data, { ...pick, over: "average" }, 8);
  const largest = chosenRow(data, { ...pick, over: "largest" }, 8);
  for (let s = 0; s <= 8; s++) {
    assert.ok(Math.abs(average[s] - (first[s] + second[s] + third[s]) / 3) < 1e-5);
    assert.ok(Math.abs(largest[s] - Math.max(first[s], second[s], third[s])) < 1e-5);
  }
  assert.ok(Math.abs(average.reduce((a, b) => a + b) - 1) < 1e-4);
});

test("small maps keep the largest weight of each block", () => {
  const data = { size: 5, weights: (map, t, s) => (t === 4 && s === 1 ? 0.9 : 0.1 * (t + 1) / 5) };
  const pooled = poolMap(data, 0, 2);
  assert.deepEqual(Array.from(pooled, (x) => Number(x.toFixed(2))), [0.06, 0, 0.9, 0.1]);
});

test("the largest come first, of equals the earlier", () => {
  assert.deepEqual(largestPlaces([0.1, 0.4, 0.4, 0.05], 3), [1, 2, 0]);
});

test("the rest makes 1, but never hides a row that does not add up to 1", () => {
  assert.ok(Math.abs(restOf([0.5, 0.3, 0.2 - 7e-6], [0], exact) - 0.5) < 1e-12);
  assert.ok(Math.abs(restOf([0.5, 0.3, 0.1], [0], exact) - 0.4) < 1e-12);
  assert.ok(Math.abs(restOf([0.5, 0.3, 0.1], [0], coarse) - 0.4) < 1e-12);
});

test("heads get the names they earned", () => {
  const labels = [
    { name: "previous token", threshold: 0.3, scores: [0.9, 0.2, 0.3] },
    { name: "induction", threshold: 0.4, scores: null },
    { name: "broad", threshold: 0.8, scores: [0.1, 0.7, 0.95] },
  ];
  assert.deepEqual(namesOf(labels, 0), [{ name: "previous token", score: 0.9 }]);
  assert.deepEqual(namesOf(labels, 1), []);
  assert.deepEqual(namesOf(labels, 2).map(({ name }) => name), ["broad", "previous token"]);
  assert.equal(nearestName(labels, 1).name, "previous token");
  assert.deepEqual(bestHeads(labels[0], 2), [0, 2]);
  assert.deepEqual(bestHeads(labels[1], 2), []);
});

test("numbers claim no more than they know", () => {
  assert.equal(shareText(0.31416, exact), "0.3142");
  assert.equal(shareText(0.31416, coarse), "~0.31");
  assert.equal(shareText(0.0078, coarse), "~0.008");
  assert.equal(scoreText(-Infinity, 2, exact), "below \u22129.8");
  assert.equal(scoreText(1.5, 2, exact), "1.50");
  assert.equal(scoreText(-6, 2, exact), "~\u22126.0");
  assert.equal(scoreText(1.5, 2, coarse), "~1.5");
});

test("the sentence names layer, head, tokens and weight", () => {
  const data = { layers: [4], heads: [7], tokens: ["The", " cat", "\n", " it"], ...exact };
  const pick = { layer: 0, head: 0, over: "one", measure: "weights" };
  assert.equal(saying(data, pick, 3, [0.1, 0.5, 0.2, 0.2]),
    "layer 4 head 7: “it” (token 3) attends most to “cat” (token 1), 0.50.");
  assert.match(saying(data, pick, 2, [0.1, 0.2, 0.7]), /newline \(token 2\) attends most to itself, 0\.70/);
  assert.equal(spoken(data.tokens, 2), "newline (token 2)");
});
