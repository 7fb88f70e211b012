// Maps by setting or checkpoint, and the curves beside them.

import { placeIn } from "./colours.js";
import { number, shortNumber } from "./text.js";

/** Return get(setting, map, t, s) for matrices packed one after another. */
export function stackedMaps(floats, numMaps, size) {
  return (setting, map, t, s) => floats[((setting * numMaps + map) * size + t) * size + s];
}

/** Return the lowest and highest finite value of one map in all settings. */
export function spanOf(get, numSettings, map, size) {
  let low = 0, high = 0;
  for (let k = 0; k < numSettings; k++) {
    for (let i = 0; i < size * size; i++) {
      const x = get(k, map, Math.floor(i / size), i % size);
      if (Number.isFinite(x)) { low = Math.min(low, x); high = Math.max(high, x); }
    }
  }
  return { low, high };
}

/** Return the sum of a row, NaN if a cell of it is not a number. */
export function rowSum(get, size) {
  let sum = 0;
  for (let s = 0; s < size; s++) sum += get(s);
  return sum;
}

/** Return a value's place in a colour table of 0..1: NaN stays, infinity is null. */
export function placeOf(x, isShare, { low, high }) {
  if (isShare && Number.isFinite(x)) return Math.max(0, Math.min(1, x));
  return placeIn(x, { top: Math.max(high, -low) || 1, signed: low < 0 });
}

/** Return the value of the meter as text. */
export function meterText(value) {
  if (value == null) return "not a number";
  return value === 0 ? "none (exactly 0)" : shortNumber(value);
}

/** Return the value of a line at x, straight between its points; null outside. */
export function valueAt(xs, ys, x) {
  if (x < xs[0] || x > xs[xs.length - 1]) return null;
  let i = xs.findIndex((step) => step >= x);
  if (xs[i] === x) return { y: ys[i], exact: true };
  const part = (x - xs[i - 1]) / (xs[i] - xs[i - 1]);
  return { y: ys[i - 1] + part * (ys[i] - ys[i - 1]), exact: false };
}

/** Return a curve's value at a step as text; "~" where it lies between two points. */
export function curveText(curve, step) {
  const value = valueAt(curve.xs, curve.ys, step);
  return value ? `${number(value.y, 3, !value.exact)}${curve.unit ? ` ${curve.unit}` : ""}` : "not measured";
}
