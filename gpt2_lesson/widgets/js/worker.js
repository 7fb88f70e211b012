// The model's own thread, so that typing never waits for it. Messages in, messages out:
// {type: "open", weights} -> {config}; {type: "maps", names} -> {state} for attention.js
// {type: "read", ids, off, lens} -> {logits, whole, lens}: `whole` with all heads on

import { Model, readWeights } from "./numbers/model.js";
import { cellCount, unpackBytes } from "./numbers/packing.js";

let whole, ablated; // the model as it is, and the same one without some heads

async function zipped(values) {
  const stream = new Blob([values]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function open({ weights }) {
  const packed = readWeights((await unpackBytes(weights)).buffer);
  whole = new Model(packed);
  ablated = new Model(packed);
  return { config: whole.config };
}

function read({ ids, off, lens }) {
  const model = off.length ? ablated : whole;
  if (off.length && off.join() !== [...ablated.off].join()) ablated.ablate(off);
  model.read(ids);
  return { logits: model.logits.slice(), whole: off.length ? whole.read(ids).slice() : null,
    lens: lens ? model.lens() : null };
}

/** Return what attention.js draws of the text read last, without the heads in `off`. */
async function maps({ names, off }) {
  const model = off.length ? ablated : whole;
  const { num_layers: L, num_heads: H } = model.config;
  const size = model.ids.length, cells = cellCount(size);
  const codes = new Uint16Array(L * H * cells);
  model.weights.forEach((row, map) => {
    for (let i = 0; i < cells; i++) codes[map * cells + i] = Math.round(Math.min(1, row[i]) * 65535);
  });
  const [data, totals, sizes] = await Promise.all([
    zipped(codes), levels(model.totals, size), levels(model.sizes(), size)]);
  const count = (n) => Array.from({ length: n }, (_, i) => i);
  return { state: { tokens: model.ids.map((id) => names[id]), layers: count(L), heads: count(H),
    weights: { code: "u16", data }, totals, sizes } };
}

/** Return numbers as low + step × code, as Python's `_levels` packs them. */
async function levels(rows, size) {
  const all = Float64Array.from(rows.flatMap((row) => Array.from(row.subarray(0, size))));
  const low = all.reduce((a, b) => Math.min(a, b), Infinity);
  const step = (all.reduce((a, b) => Math.max(a, b), -Infinity) - low) / 65535 || 1;
  return { low, step, bits: 16, data: await zipped(Uint16Array.from(all, (x) => Math.round((x - low) / step))) };
}

const TASKS = { open, read, maps };
self.onmessage = async ({ data }) => {
  try {
    self.postMessage({ request: data.request, ...await TASKS[data.type](data) });
  } catch (error) {
    self.postMessage({ request: data.request, error: String(error) });
  }
};
