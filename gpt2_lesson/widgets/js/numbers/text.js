// Numbers and tokens as text.

const BLANK = { " ": "space", "\n": "newline", "\t": "tab", "": "empty", "\r": "return" };

/** Return a token's name: blanks get a word, control characters a code. */
export function tokenName(token) {
  if (token in BLANK) return BLANK[token];
  return token.replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]/gu,
    (c) => `\\u${c.codePointAt(0).toString(16).padStart(4, "0")}`)
    .replace(/^ /, "\u2423").replace(/ $/, "\u2423");
}

/** Return what stands in running text for a token: short, and visible. */
export function tokenFace(token) {
  return { " ": "\u2423", "\n": "\u21b5", "\t": "\u21e5", "": "\u2205" }[token]
    ?? tokenName(token);
}

/** Return `x` with `digits` decimals and a real minus sign; "approx" puts ~ before. */
export function number(x, digits = 2, approx = false) {
  if (!Number.isFinite(x)) return x > 0 ? "\u221e" : x < 0 ? "\u2212\u221e" : "not a number";
  const text = x.toFixed(digits);
  return (approx ? "~" : "") + (Number(text) === 0 ? text.replace("-", "") : text.replace("-", "\u2212"));
}

/** Return a probability as text: three decimals, "<0.001" for what would read 0. */
export function probText(p) {
  return p === 0 ? "0" : p >= 0.0005 ? number(p, 3) : "<0.001";
}

/** Return a number for a cell of a map: short, and 0 only where it is exactly 0. */
export function shortCell(x) {
  if (Number.isNaN(x)) return "nan";
  if (!Number.isFinite(x)) return number(x);
  return x === 0 ? "0" : number(x, Math.abs(x) < 10 ? 2 : 0);
}

/** Return given numbers as a vector, whole ones without decimals. */
export const shortVector = (row) => `[${row.map((x) => number(x, Number.isInteger(x) ? 0 : 2)).join(", ")}]`;

/** Return numbers as a vector, each with two decimals. */
export const vectorText = (row) => `[${row.map((x) => number(x)).join(", ")}]`;

/** Return a number in six digits. */
export function sixDigits(x) {
  return Number.isFinite(x) ? String(Number(x.toPrecision(6))).replaceAll("-", "\u2212") : number(x);
}

/** Return a number in two digits. */
export const twoDigits = (x) => String(Number(x.toPrecision(2))).replaceAll("-", "\u2212");

/** Return a number in about four digits. */
export function shortNumber(x) {
  if (!Number.isFinite(x)) return number(x);
  const size = Math.abs(x);
  if (size === 0) return "0";
  return size < 0.001 || size >= 10000 ? x.toExponential(1).replaceAll("-", "\u2212")
    : number(x, size < 10 ? 3 : 1);
}

/** Return a change with its sign; one that rounds to 0 has none. */
export function signedNumber(x, digits) {
  if (Math.abs(x) < 0.5 * 10 ** -digits) return number(0, digits);
  return (x > 0 ? "+" : "") + number(x, digits);
}

/** Return a count with commas. */
export const withCommas = (count) => String(count).replace(/\B(?=(\d{3})+$)/g, ",");
