import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { colourTable, inkOn } from "../../../gpt2_lesson/widgets/js/numbers/colours.js";
import { cellAt, cellCount, unpackTriangles } from "../../../gpt2_lesson/widgets/js/numbers/packing.js";
import { scaleTop, softmax } from "../../../gpt2_lesson/widgets/js/numbers/probabilities.js";
import { number, probText, tokenFace, tokenName } from "../../../gpt2_lesson/widgets/js/numbers/text.js";

const path = process.env.GPT2_LESSON_FIXTURE;
const options = { skip: path ? false : "pytest tests/widgets/test_js.py writes the numbers" };
const fixture = path ? JSON.parse(readFileSync(path, "utf8")) : null;
const THEMES = [["shares", false], ["shares", true], ["signed", false], ["signed", true]];

test("triangles unpack as in Python, cell by cell", options, async () => {
  for (const [code, packed] of Object.entries(fixture.packed)) {
    const maps = await unpackTriangles(packed, fixture.size);
    assert.equal(maps.count, 3);
    assert.equal(maps.exact, code === "u16");
    fixture.weights[code].forEach((map, m) => map.forEach((row, t) => row.forEach((weight, s) => {
      assert.ok(Math.abs(maps.get(m, t, s) - weight) < 1e-6, `${code} ${m} ${t} ${s}`);
    })));
  }
});

test("cells of a triangle are counted row after row", () => {
  let count = 0;
  for (let t = 0; t < 6; t++) for (let s = 0; s <= t; s++) assert.equal(cellAt(t, s), count++);
  assert.equal(cellCount(6), count);
});

test("light shares have matplotlib's Blues", options, () => {
  const table = colourTable("shares", false);
  fixture.blues.forEach((colour, i) => colour.forEach((x, c) => {
    assert.ok(Math.abs(table[4 * i + c] - x) <= 2, `${i}: ${table.slice(4 * i, 4 * i + 3)} and ${colour}`);
  }));
});

const lightness = (table, i) => {
  const [r, g, b] = [0, 1, 2].map((c) => table[4 * i + c] / 255)
    .map((x) => (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};

test("shares run one way in lightness, signed numbers two", () => {
  for (const [name, dark] of THEMES) {
    const table = colourTable(name, dark);
    const from = name === "shares" ? 1 : 129;
    for (let i = from; i < 256; i++) {
      const step = lightness(table, i) - lightness(table, i - 1);
      assert.ok(dark ? step >= -2e-3 : step <= 2e-3, `${name} ${dark} ${i}`);
    }
  }
});

test("what is written on a colour can be read: contrast 4.5 at least", () => {
  for (const [name, dark] of THEMES) {
    const table = colourTable(name, dark);
    for (let i = 0; i < 256; i++) {
      const ground = lightness(table, i);
      const ink = inkOn(table, i / 255) === "#000000" ? 0 : 1;
      const contrast = (Math.max(ground, ink) + 0.05) / (Math.min(ground, ink) + 0.05);
      assert.ok(contrast >= 4.5, `${name} ${dark} ${i}: ${contrast}`);
    }
  }
});

test("softmax: the worked example, and what is masked", () => {
  const near = (a, b) => a.forEach((x, i) => assert.ok(Math.abs(x - b[i]) < 1e-12));
  near(softmax([0, Math.log(2), Math.log(3)]), [1 / 6, 1 / 3, 1 / 2]);
  near(softmax([1000, -Infinity, 1000]), [0.5, 0, 0.5]);
});

test("blank and hostile tokens have names that can be seen", () => {
  assert.equal(tokenName(" "), "space");
  assert.equal(tokenName("\n"), "newline");
  assert.equal(tokenName(""), "empty");
  assert.equal(tokenName("\u2028"), "\\u2028");
  assert.equal(tokenName(" mat"), "\u2423mat");
  assert.equal(tokenFace("\n"), "\u21b5");
  assert.equal(tokenName("</script>"), "</script>");
});

test("numbers have a real minus and say when they are near only", () => {
  assert.equal(number(-0.256), "\u22120.26");
  assert.equal(number(-0.002), "0.00");
  assert.equal(number(0.42, 2, true), "~0.42");
  assert.deepEqual([0, 2e-7, 0.0004, 0.0005].map(probText), ["0", "<0.001", "<0.001", "0.001"]);
  assert.deepEqual([[0.03, 0.004], [0.55], [0.93]].map(scaleTop), [0.04, 0.6, 1]);
  assert.equal(number(-Infinity), "\u2212\u221e");
});
