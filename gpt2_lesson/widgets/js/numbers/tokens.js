// Text to token ids and back: plain bytes, or the merges of a byte-level BPE.

const SPLIT = /'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+/gu;

/** A tokenizer of {tokens, merges}: a string of bytes for each id, and [a, b, ab] for each
 * pair of ids that becomes one, in the order of learning; null: every byte is a token. */
export class Tokenizer {
  constructor(vocabulary) {
    const { tokens, merges } = vocabulary ?? { tokens: Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte)), merges: [] };
    this.tokens = tokens.map((text) => Uint8Array.from(text, (c) => c.charCodeAt(0)));
    this.merges = new Map(merges.map(([a, b, merged]) => [`${a},${b}`, merged]));
    this.byteIds = new Map();
    this.tokens.forEach((bytes, id) => {
      if (bytes.length === 1 && !this.byteIds.has(bytes[0])) this.byteIds.set(bytes[0], id);
    });
  }

  /** Return the ids of a text. */
  encode(text) {
    const pieces = this.merges.size ? text.match(SPLIT) ?? [] : [text];
    return pieces.flatMap((piece) => this.merged(
      Array.from(new TextEncoder().encode(piece), (byte) => this.byteIds.get(byte))));
  }

  /** Return the ids of one pre-token after all merges, the earliest learned first. */
  merged(ids) {
    if (!this.merges.size) return ids;
    for (;;) {
      let first = Infinity;
      for (let i = 0; i + 1 < ids.length; i++) first = Math.min(first, this.pair(ids, i));
      if (first === Infinity) return ids;
      const next = [];
      for (let i = 0; i < ids.length; i++) {
        const found = this.pair(ids, i) === first;
        next.push(found ? first : ids[i]);
        if (found) i++;
      }
      ids = next;
    }
  }

  /** Return what the pair at place i becomes; Infinity for none. */
  pair(ids, i) {
    return this.merges.get(`${ids[i]},${ids[i + 1]}`) ?? Infinity;
  }

  /** Return the text of ids; half characters become U+FFFD. */
  decode(ids) {
    return new TextDecoder().decode(Uint8Array.from(ids.flatMap((id) => Array.from(this.tokens[id]))));
  }

  /** Return a token's text, or its bytes as codes where they are not whole characters. */
  name(id) {
    try {
      return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(this.tokens[id]);
    } catch {
      return Array.from(this.tokens[id], (byte) => `<0x${byte.toString(16).padStart(2, "0")}>`).join("");
    }
  }
}
