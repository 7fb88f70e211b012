// The live figure's messages: which answers count, and how bytes come back.
import assert from "node:assert/strict";
import { gzipSync } from "node:zlib";
import test from "node:test";

import { requests, withBuffers } from "../../../gpt2_lesson/widgets/js/live.js";
import { unpackBytes } from "../../../gpt2_lesson/widgets/js/numbers/packing.js";

test("only the answer to the newest request counts, and only once", () => {
  const own = requests("me");
  const [first, second] = [own.ask(), own.ask()];
  assert.equal(own.takes({ request: first }), false);
  assert.equal(own.takes({ request: "other-2" }), false); // another view's, while we wait
  assert.equal(own.pending, true);
  assert.equal(own.takes({ request: second, error: "no" }), true);
  assert.equal(own.takes({ request: second }), false);
  assert.equal(own.pending, false);
});

test("while nothing is asked, what Python or another view shows is shown; not its errors", () => {
  const own = requests("me");
  assert.equal(own.takes({ request: null }), true);
  assert.equal(own.takes({ request: "other-1" }), true);
  assert.equal(own.takes({ request: "other-1", error: "no" }), false);
});

test("packed numbers come back from the buffers, wherever these begin", async () => {
  const numbers = [...Array(300).keys()].map((i) => i % 251);
  const zipped = gzipSync(Uint8Array.from(numbers));
  const room = new Uint8Array(zipped.length + 7);
  room.set(zipped, 5);
  const view = new DataView(room.buffer, 5, zipped.length);
  const whole = { code: "u16", data: 0 };
  const state = withBuffers({ tokens: ["a"], weights: whole, totals: whole, sizes: whole }, [view]);
  assert.deepEqual([...await unpackBytes(state.weights.data)], numbers);
  assert.equal(state.weights.code, "u16");
  assert.deepEqual(state.tokens, ["a"]);
});
