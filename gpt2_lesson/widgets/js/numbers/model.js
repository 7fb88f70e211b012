// GPT-2 in plain JavaScript: token ids in, logits out. Numbers only, no page.
// One token at a time goes through all layers; keys and values of the earlier ones stay.

import { cellAt, cellCount } from "./packing.js";

const ROOT_2_PI = Math.sqrt(2 / Math.PI);

/** Return {config, tensors} of packed weights: a JSON head behind its length, then data. */
export function readWeights(buffer) {
  const size = new DataView(buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, size)));
  const tensors = {};
  for (const [name, { kind, count, at }] of Object.entries(head.tensors)) {
    const start = 4 + size + at;
    tensors[name] = kind === "f32" ? new Float32Array(buffer, start, count)
      : Float32Array.from(new Uint16Array(buffer, start, count), fromHalf);
  }
  return { config: head.config, tensors };
}

/** Return the number that 16 bits stand for (IEEE half precision). */
export function fromHalf(code) {
  const sign = code & 0x8000 ? -1 : 1;
  const exponent = (code >> 10) & 31;
  const fraction = code & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** Write W x + b into y; rows from `first` on of a matrix with y.length rows or more. */
function linear(y, weight, bias, x) {
  const columns = x.length;
  const whole = columns - (columns % 4);
  for (let row = 0, at = 0; row < y.length; row++, at = row * columns) {
    let a = 0, b = 0, c = 0, d = 0; // four sums, which the processor can add side by side
    for (let i = 0; i < whole; i += 4) {
      a += weight[at + i] * x[i];
      b += weight[at + i + 1] * x[i + 1];
      c += weight[at + i + 2] * x[i + 2];
      d += weight[at + i + 3] * x[i + 3];
    }
    for (let i = whole; i < columns; i++) a += weight[at + i] * x[i];
    y[row] = a + b + c + d + (bias ? bias[row] : 0);
  }
}

/** Write the layer norm of x into y. */
function layerNorm(y, x, weight, bias) {
  const size = x.length;
  let mean = 0, variance = 0;
  for (let i = 0; i < size; i++) mean += x[i] / size;
  for (let i = 0; i < size; i++) variance += (x[i] - mean) ** 2 / size;
  const scale = 1 / Math.sqrt(variance + 1e-5);
  for (let i = 0; i < size; i++) y[i] = (x[i] - mean) * scale * weight[i] + bias[i];
}

/** Return GELU in GPT-2's tanh form. */
const gelu = (x) => 0.5 * x * (1 + Math.tanh(ROOT_2_PI * (x + 0.044715 * x ** 3)));

function add(x, change) {
  for (let i = 0; i < x.length; i++) x[i] += change[i];
}

/** A GPT-2 that remembers one text. `read(ids)` returns the logits after its last token. */
export class Model {
  constructor({ config, tensors }) {
    const { d_model: C, d_ff: F, vocab_size: V, num_layers: L, num_heads: H, max_seq_length: T } = config;
    const zeros = (count) => new Float32Array(count);
    Object.assign(this, { config, tensors, ids: [], off: new Set() });
    this.x = zeros(C);
    this.logits = zeros(V);
    this.parts = { normed: zeros(C), qkv: zeros(3 * C), mixed: zeros(C), out: zeros(C), hidden: zeros(F), scores: zeros(T) };
    this.keys = Array.from({ length: L }, () => zeros(T * C));
    this.values = Array.from({ length: L }, () => zeros(T * C));
    this.stream = Array.from({ length: L + 1 }, () => zeros(C)); // of the last token read
    this.weights = Array.from({ length: L * H }, () => zeros(cellCount(T)));
    this.totals = Array.from({ length: L * H }, () => zeros(T)); // ln of the softmax's sum
  }

  /** Return the logits (V) after `ids`; tokens that were read before are not read again. */
  read(ids) {
    if (!ids.length || ids.length > this.config.max_seq_length) {
      throw new RangeError(`${ids.length} tokens, expected 1 to ${this.config.max_seq_length}`);
    }
    let same = 0;
    while (same < this.ids.length && this.ids[same] === ids[same]) same++;
    this.ids.length = Math.min(same, ids.length - 1);
    while (this.ids.length < ids.length) this.step(ids[this.ids.length]);
    return this.logits;
  }

  /** Ablate the heads with these numbers (layer x H + head), and no others. */
  ablate(heads) {
    this.off = new Set(heads);
    this.ids = [];
  }

  /** Read one more token. */
  step(id) {
    const { config: { d_model: C, num_layers }, tensors, x } = this;
    const at = this.ids.push(id) - 1;
    const [tokens, positions] = [tensors["tok_emb.weight"], tensors["pos_emb.weight"]];
    for (let i = 0; i < C; i++) x[i] = tokens[id * C + i] + positions[at * C + i];
    this.stream[0].set(x);
    for (let layer = 0; layer < num_layers; layer++) {
      this.attend(layer, at);
      this.feedForward(layer);
      this.stream[layer + 1].set(x);
    }
    this.unembed(this.logits, x);
  }

  /** Add what the layer's heads bring to the token at `at`. */
  attend(layer, at) {
    const { config: { d_model: C, num_heads: H }, x, parts: { normed, qkv, mixed, out } } = this;
    layerNorm(normed, x, this.part(layer, "ln_attn.weight"), this.part(layer, "ln_attn.bias"));
    linear(qkv, this.part(layer, "attn.qkv_proj.weight"), this.part(layer, "attn.qkv_proj.bias"), normed);
    this.keys[layer].set(qkv.subarray(C, 2 * C), at * C);
    this.values[layer].set(qkv.subarray(2 * C), at * C);
    mixed.fill(0);
    for (let head = 0; head < H; head++) this.mix(layer, head, at);
    linear(out, this.part(layer, "attn.out_proj.weight"), this.part(layer, "attn.out_proj.bias"), mixed);
    add(x, out);
  }

  /** Average the values of one head; an ablated head brings nothing. */
  mix(layer, head, at) {
    const { config: { d_model: C, num_heads: H }, parts: { qkv, mixed, scores } } = this;
    const [keys, values, map] = [this.keys[layer], this.values[layer], layer * H + head];
    const first = (head * C) / H, end = first + C / H, scale = 1 / Math.sqrt(C / H);
    let most = -Infinity, sum = 0;
    for (let s = 0; s <= at; s++) {
      let dot = 0;
      for (let i = first, k = s * C + first; i < end; i++, k++) dot += qkv[i] * keys[k];
      scores[s] = dot * scale;
      most = Math.max(most, scores[s]);
    }
    for (let s = 0; s <= at; s++) sum += Math.exp(scores[s] - most);
    this.totals[map][at] = most + Math.log(sum);
    const row = this.weights[map].subarray(cellAt(at, 0));
    for (let s = 0; s <= at; s++) {
      const weight = row[s] = Math.exp(scores[s] - most) / sum;
      if (this.off.has(map)) continue;
      for (let i = first, k = s * C + first; i < end; i++, k++) mixed[i] += weight * values[k];
    }
  }

  /** Add what the layer's feed-forward network makes of the token. */
  feedForward(layer) {
    const { x, parts: { normed, hidden, out } } = this;
    layerNorm(normed, x, this.part(layer, "ln_mlp.weight"), this.part(layer, "ln_mlp.bias"));
    linear(hidden, this.part(layer, "mlp.up_proj.weight"), this.part(layer, "mlp.up_proj.bias"), normed);
    for (let i = 0; i < hidden.length; i++) hidden[i] = gelu(hidden[i]);
    linear(out, this.part(layer, "mlp.down_proj.weight"), this.part(layer, "mlp.down_proj.bias"), hidden);
    add(x, out);
  }

  /** Write the logits of a vector of the residual stream: final norm, then the embeddings. */
  unembed(logits, x) {
    const { tensors, parts: { normed } } = this;
    layerNorm(normed, x, tensors["ln_final.weight"], tensors["ln_final.bias"]);
    linear(logits, tensors["tok_emb.weight"], null, normed);
  }

  /** Return the logit lens at the last token: logits (V) for embeddings and each layer. */
  lens() {
    return this.stream.map((x) => {
      const logits = new Float32Array(this.config.vocab_size);
      this.unembed(logits, x);
      return logits;
    });
  }

  /** Return the size of each token's value after the output projection, by map. */
  sizes() {
    const { config: { d_model: C, num_layers: L, num_heads: H } } = this;
    const brought = new Float32Array(C);
    return Array.from({ length: L * H }, (_, map) => {
      const [layer, first] = [Math.floor(map / H), ((map % H) * C) / H];
      const weight = this.part(layer, "attn.out_proj.weight");
      return Float32Array.from(this.ids, (_id, s) => {
        brought.fill(0);
        for (let c = 0; c < C; c++) {
          for (let i = first; i < first + C / H; i++) brought[c] += weight[c * C + i] * this.values[layer][s * C + i];
        }
        return Math.hypot(...brought);
      });
    });
  }

  part(layer, name) {
    return this.tensors[`blocks.${layer}.${name}`];
  }
}
