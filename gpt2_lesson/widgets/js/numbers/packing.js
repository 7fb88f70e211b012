// The numbers that Python packed: the other half of packing.py.

/** Return the bytes that Python's `pack` wrote: base64 of gzip, or the gzip's bytes. */
export async function unpackBytes(packed) {
  const zipped = typeof packed !== "string" ? packed
    : Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
  const stream = new Blob([zipped]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Return the float32 numbers that Python's `pack` wrote. */
export async function unpackFloats(text) {
  return new Float32Array((await unpackBytes(text)).buffer);
}

/** Return the numbers in 0..1 that Python's `pack_fractions` wrote. */
export async function unpackShares(text) {
  const codes = new Uint16Array((await unpackBytes(text)).buffer);
  return Float32Array.from(codes, (code) => code / 65535);
}

/** Return the place of row t, column s among a lower triangle's cells. */
export const cellAt = (t, s) => (t * (t + 1)) / 2 + s;

/** Return the number of cells of a lower triangle of `size` rows. */
export const cellCount = (size) => (size * (size + 1)) / 2;

/** Return {get(map, t, s), exact, levels, count, size} for what `pack_triangles` wrote. */
export async function unpackTriangles(packed, size) {
  const bytes = await unpackBytes(packed.data);
  const exact = packed.code === "u16";
  const raw = exact ? new Uint16Array(bytes.buffer) : bytes;
  const levels = exact ? 65535 : packed.levels ?? 255;
  const table = exact ? null : Float32Array.from({ length: 256 }, (_, i) => (i / levels) ** 2);
  const cells = cellCount(size);
  return {
    exact, levels, size, count: raw.length / cells,
    get(map, t, s) {
      if (s > t) return 0;
      const code = raw[map * cells + cellAt(t, s)];
      return exact ? code / 65535 : table[code];
    },
  };
}

/** Return the numbers that Python's `_levels` wrote: low + step × code. */
export async function unpackLevels({ low, step, bits, data }) {
  const bytes = await unpackBytes(data);
  const codes = bits === 16 ? new Uint16Array(bytes.buffer) : bytes;
  return Float64Array.from(codes, (code) => low + step * code);
}
