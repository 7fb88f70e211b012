// What a setting of the sampler does, as text.

import { entropy } from "./probabilities.js";
import { number, probText, tokenName } from "./text.js";

/** Return the numbers below the bars. */
export function factsText({ plain, shaped: { probs, left, mass }, names }) {
  const size = names.length;
  return `Tokens left: ${left.toLocaleString("en")} of ${size.toLocaleString("en")}. `
    + `Probability mass kept by the cuts: ${number(mass, 3)}. `
    + `Entropy: ${number(entropy(plain), 2)} nats before, ${number(entropy(probs), 2)} after. `
    + "Each column of probabilities adds up to 1.";
}

/** Return the sentence that is read out: the effect of the settings, or the samples. */
export function benchSentence(bench, rows) {
  const { names, shaped: { probs, left }, plain, settings, drawn, last } = bench;
  const face = (id) => `'${tokenName(names[id])}'`;
  if (drawn) {
    const [id, gap] = rows.map((row) => [row, Math.abs((bench.counts.get(row) ?? 0) / drawn - probs[row])])
      .reduce((a, b) => (b[1] > a[1] ? b : a));
    const count = bench.counts.get(id) ?? 0;
    const fit = gap < 0.0005 ? "Each sampled fraction equals its probability to three decimals."
      : `The largest difference (${number(gap, 3)}): ${face(id)} was sampled ${count} times, a fraction of ${
        number(count / drawn, 3)}, and its probability is ${probText(probs[id])}.`;
    return `Last sampled: ${face(last)}, probability ${probText(probs[last])}. Of ${drawn} samples: ${fit}`;
  }
  const top = rows[0];
  const effect = `${face(top)} goes from ${probText(plain[top])} to ${probText(probs[top])}`;
  if (settings.temperature === 0) {
    return `Temperature 0: always the most probable token, so ${effect}; top-k and top-p change nothing.`;
  }
  const steps = [settings.temperature === 1 ? null : `temperature ${settings.temperature}`,
    settings.top_k == null ? null : `top-k ${settings.top_k}`,
    settings.top_p == null ? null : `top-p ${settings.top_p}`].filter(Boolean);
  if (!steps.length) return `The model's own probabilities: nothing is cut, ${face(top)} leads with ${probText(probs[top])}.`;
  const cut = names.length - left;
  return `With ${steps.join(", then ")}: ${effect}; `
    + (cut ? `${cut.toLocaleString("en")} tokens are cut.` : "no token is cut.");
}
