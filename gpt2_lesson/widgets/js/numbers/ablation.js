// What the next token's probability becomes without each head.

import { probText, signedNumber, tokenName } from "./text.js";

/** Return [{layer, head, now, change}] of every head; change in nats of ln p. */
export function headChanges({ was, now }) {
  return now.flatMap((row, layer) => row.map((value, head) => ({
    layer, head, now: value, change: value - was })));
}

/** Return the sum of a row's weights at some places. */
export const groupWeight = (row, places) => places.reduce((sum, place) => sum + row[place], 0);

/** Return the sentence about one head. */
export function ablationSentence({ layer, head, now, change }, { was, baseline, target }) {
  const what = quoted(target);
  const without = `Without layer ${layer} head ${head} the probability of ${what}`;
  const nats = `${signedNumber(change, 2)} nats`;
  if (baseline.length) {
    return `${without} against ${quoted(baseline)} ${moved(change, ratio(was), ratio(now))} (ln of the ratio: ${nats}).`;
  }
  return `${without} ${moved(change, probText(Math.exp(was)), probText(Math.exp(now)))} (ln p: ${nats}).`;
}

const moved = (change, was, now) => (Math.abs(change) < 0.005 ? `hardly changes: ${was} before, ${now} without it`
  : was === now && was.startsWith("<") ? `${change < 0 ? "falls" : "rises"}, and is below ${was.slice(1)} before and after`
    : `${change < 0 ? "falls" : "rises"} from ${was} to ${now}`);

/** Return tokens for a sentence: 'mat' or 'sofa'. */
export const quoted = (names) => names.map((name) => `'${tokenName(name)}'`).join(" or ");

const ratio = (lnRatio) => (lnRatio >= 0 ? `${Math.exp(lnRatio).toPrecision(3)} : 1` : `1 : ${Math.exp(-lnRatio).toPrecision(3)}`);

/** Return what a weight can be on: the named groups, each head's own choice, each token.
 *
 * [{face, places}]; without places it is another token for each head.
 */
export function weightTargets({ watch, tokens }) {
  return [...watch.map(([name, places]) => ({ face: tokenName(name), places })),
    { face: "the token that each head attends to most", places: null },
    ...tokens.map((token, i) => ({ face: `'${tokenName(token)}' (${i})`, places: [i] }))];
}
