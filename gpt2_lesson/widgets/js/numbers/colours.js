// Colour tables, and a number's place in one.

// ColorBrewer's Blues and reversed RdBu; in the dark the lightness of both runs the
// other way, so that nothing stays near the ground and much stands out.
const RAMPS = {
  shares: {
    light: ["#f7fbff", "#deebf7", "#c6dbef", "#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#08519c", "#08306b"],
    dark: ["#1b1e24", "#15304f", "#0f4379", "#1c5a9e", "#3174bd", "#5592d3", "#82b2e6", "#b3d3f5", "#e6f2ff"],
  },
  signed: {
    light: ["#2166ac", "#4393c3", "#92c5de", "#d1e5f0", "#f7f7f7", "#fddbc7", "#f4a582", "#d6604d", "#b2182b"],
    dark: ["#9ccbf2", "#6ba9dc", "#3f7fb5", "#25507a", "#1b1e24", "#6e3223", "#a94a33", "#de7259", "#ffab97"],
  },
};

/** Return 256 x 4 bytes, the colours of 0..1 or, if signed, of -1..1. */
export function colourTable(name, dark) {
  const stops = RAMPS[name][dark ? "dark" : "light"].map((hex) =>
    [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)));
  const table = new Uint8ClampedArray(256 * 4);
  for (let i = 0; i < 256; i++) {
    const place = (i / 255) * (stops.length - 1);
    const low = Math.min(Math.floor(place), stops.length - 2);
    for (let c = 0; c < 3; c++) {
      table[4 * i + c] = Math.round(stops[low][c] + (place - low) * (stops[low + 1][c] - stops[low][c]));
    }
    table[4 * i + 3] = 255;
  }
  return table;
}

/** Return a CSS colour of the table for a value in 0..1. */
export function cssColour(table, value) {
  const i = 4 * colourIndex(value);
  return `rgb(${table[i]}, ${table[i + 1]}, ${table[i + 2]})`;
}

/** Return black or white, whichever reads better on the table's colour of a value. */
export function inkOn(table, value) {
  const i = 4 * colourIndex(value);
  const light = [0, 1, 2].map((c) => (table[i + c] / 255) ** 2.2);
  return 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2] > 0.18 ? "#000000" : "#ffffff";
}

/** Return the place in 0..255 of a value in 0..1. */
export const colourIndex = (value) => Math.max(0, Math.min(255, Math.round(value * 255)));

/** Return the largest finite size of some numbers, and whether one is negative. */
export function scaleOf(values) {
  let top = 0, signed = false;
  for (const x of values) {
    if (!Number.isFinite(x)) continue;
    top = Math.max(top, Math.abs(x));
    signed ||= x < 0;
  }
  return { top: top || 1, signed };
}

/** Return the place of x in a table of 0..1: NaN for no number, null for infinity. */
export function placeIn(x, { top, signed }) {
  if (Number.isNaN(x)) return NaN;
  if (!Number.isFinite(x)) return null;
  return signed ? (Math.max(-1, Math.min(1, x / top)) + 1) / 2 : x / top;
}
