// What the page of a model says, and the tokens that its window holds.

import { mostProbableFirst } from "./probabilities.js";
import { probText, tokenName } from "./text.js";

/** Return the last tokens that a window of `most` holds; what is dropped goes in jumps. */
export function lastTokens(ids, most) {
  if (ids.length <= most) return ids;
  const jump = Math.max(1, Math.floor(most / 4));
  return ids.slice(Math.ceil((ids.length - most) / jump) * jump);
}

/** Return a sentence about the most probable token, for those who cannot see the bars. */
export function nextSentence(probs, names, off) {
  const [first, second] = mostProbableFirst(probs);
  const without = off.length ? `Without ${off.length === 1 ? "this head" : `these ${off.length} heads`}: ` : "";
  return `${without}most probable is ‘${tokenName(names[first])}’ with ${probText(probs[first])}, `
    + `then ‘${tokenName(names[second])}’ with ${probText(probs[second])}.`;
}
