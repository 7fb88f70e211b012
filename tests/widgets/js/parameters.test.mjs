import assert from "node:assert/strict";
import test from "node:test";
import {
  blockName, describeLeaf, layout, percent, rowsFor, strips,
} from "../../../gpt2_lesson/widgets/js/numbers/parameters.js";
import { withCommas } from "../../../gpt2_lesson/widgets/js/numbers/text.js";

/** A small model: embeddings, `count` blocks of two branches, a final norm. */
function model(count) {
  const leaf = (name, place, part, shape) => ({ name, place, part, shape, count: shape.reduce((a, b) => a * b, 1) });
  const block = (i) => [leaf(`blocks.${i}.attn.qkv_proj.weight`, `block ${i}`, "attention", [12, 4]),
    leaf(`blocks.${i}.mlp.up_proj.weight`, `block ${i}`, "feed-forward", [16, 4])];
  return [leaf("tok_emb.weight", "embeddings", "embeddings", [50, 4]),
    ...Array.from({ length: count }, (_, i) => block(i)).flat(), leaf("ln_final.weight", "final norm", "norms", [4])];
}

const area = ({ w, h }) => w * h;

for (const [count, w, h] of [[1, 900, 400], [7, 900, 400], [12, 370, 560]]) {
  test(`${count} blocks in ${w} x ${h}: each area is in proportion, and none overlaps`, () => {
    const leaves = model(count);
    const total = leaves.reduce((sum, leaf) => sum + leaf.count, 0);
    const { leaves: placed } = layout(leaves, w, h);
    assert.equal(placed.length, leaves.length);
    for (const { leaf, box } of placed) {
      assert.ok(Math.abs(area(box) / (w * h) - leaf.count / total) < 1e-9, leaf.name);
      assert.ok(box.x >= -1e-9 && box.y >= -1e-9 && box.x + box.w <= w + 1e-6 && box.y + box.h <= h + 1e-6);
    }
    for (const [i, { box: a }] of placed.entries()) {
      for (const { box: b } of placed.slice(i + 1)) {
        const over = (p, q, at, size) => Math.min(p[at] + p[size], q[at] + q[size]) - Math.max(p[at], q[at]);
        assert.ok(over(a, b, "x", "w") < 1e-6 || over(a, b, "y", "h") < 1e-6);
      }
    }
  });
}

test("a block's name stays inside its first part, or is its number alone", () => {
  assert.equal(blockName("block 11", 80), "block 11");
  assert.equal(blockName("block 11", 30), "11");
  assert.equal(blockName("block 11", 12), "");
});

test("strips fill the box", () => {
  const [a, b] = strips({ x: 10, y: 0, w: 8, h: 4 }, [1, 3], true);
  assert.deepEqual([a, b], [{ x: 10, y: 0, w: 2, h: 4 }, { x: 12, y: 0, w: 6, h: 4 }]);
});

test("twelve blocks in a wide box stand in two rows of six", () => {
  assert.equal(rowsFor(12, 900, 300), 2);
});

test("a parameter is told with its shape, its share, and its like in all blocks", () => {
  const leaves = model(3);
  const text = describeLeaf(leaves[1], leaves, 1000);
  assert.equal(text, "blocks.0.attn.qkv_proj.weight: 12 \u00d7 4 = 48 parameters, 4.8% of all. All 3 blocks together: 144, 14.4%.");
  assert.equal(describeLeaf(leaves.at(-1), leaves, 1000), "ln_final.weight: 4 parameters, 0.4% of all.");
});

test("a small share is not rounded to nothing", () => {
  assert.deepEqual([percent(1, 2000), percent(1, 1e9), withCommas(124439808)], ["0.050%", "under 0.001%", "124,439,808"]);
});
