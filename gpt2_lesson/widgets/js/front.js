// The front page: type, and the model in this page says what comes next.

import { mount } from "./attention.js";
import { el, slider, speaker } from "./core.js";
import { readMaps } from "./numbers/attention.js";
import { lastTokens, nextSentence } from "./numbers/front.js";
import { draw, mostProbableFirst, nextProbs, topKSteps } from "./numbers/probabilities.js";
import { number, probText, tokenFace, tokenName } from "./numbers/text.js";
import { Tokenizer } from "./numbers/tokens.js";

const LISTED = 10; // most probable tokens, as buttons
const LENS_LISTED = 3;
const PAUSE = 350; // milliseconds without a key until attention is drawn
const LONGEST_GENERATED = 120;

/** Return {ask}: ask(type, message) gives a promise of the worker's answer. */
export function connect(worker) {
  const waiting = new Map();
  let count = 0;
  const settle = ({ data: { request, error, ...answer } }) => {
    const { resolve, reject } = waiting.get(request);
    waiting.delete(request);
    if (error) reject(new Error(error));
    else resolve(answer);
  };
  worker.onmessage = settle;
  return { ask: (type, message = {}) => new Promise((resolve, reject) => {
    waiting.set(++count, { resolve, reject });
    worker.postMessage({ type, request: count, ...message });
  }) };
}

/** Fill `root` with the page's parts; resolve when the model has read the first text. */
export async function mountFront(root, { weights, vocabulary, prompt, examples, heads, links }, workerText) {
  const worker = new Worker(URL.createObjectURL(new Blob([workerText], { type: "text/javascript" })));
  const { ask } = connect(worker);
  const { config } = await ask("open", { weights });
  const tokenizer = new Tokenizer(vocabulary);
  const names = Array.from({ length: config.vocab_size }, (_, id) => tokenizer.name(id));
  const view = { root, ask, config, tokenizer, names, heads, links, off: [], ids: tokenizer.encode(prompt),
    readMaps, settings: { temperature: 0.8, topK: null, topP: null }, generating: false, asked: 0, random: Math.random };
  buildFront(view, examples);
  view.box.value = prompt;
  root.replaceChildren(...view.parts);
  await update(view);
  await drawAttention(view);
  root.dataset.ready = "";
  return view;
}

// ---------------------------------------------------------------- what it is made of

function buildFront(view, examples) {
  view.box = el("textarea", { rows: "6", spellcheck: "false", autocomplete: "off", id: "front-text",
    "aria-describedby": "front-status", oninput: () => typed(view) });
  view.status = el("p", { class: "quiet", id: "front-status", role: "status" });
  view.said = speaker();
  view.said.classList.add("hidden");
  view.generate = el("button", { type: "button", class: "front-main",
    onclick: () => (view.generating ? stop(view) : generate(view, LONGEST_GENERATED)) }, "Generate");
  const one = el("button", { type: "button", onclick: () => generate(view, 1) }, "Sample one token");
  const clear = el("button", { type: "button", onclick: () => setText(view, "") }, "Clear");
  view.list = el("ul", { class: "front-next", "aria-label": "next-token probabilities" });
  view.attention = el("div");
  view.lens = el("div", { class: "front-lens" });
  const prompts = examples.map((text) => el("button", { type: "button", onclick: () => setText(view, text) }, `“${text}”`));
  view.parts = [
    el("div", { class: "front-top" },
      el("section", {}, el("h2", {}, el("label", { for: "front-text" }, "Your text")), view.box,
        el("div", { class: "front-row" }, view.generate, one, clear), sliders(view),
        el("div", { class: "front-row front-examples" }, prompts), view.status,
        lesson(view, "generation", "How sampling works: lesson 06")),
      el("section", {}, el("h2", {}, "What comes next"), view.list, view.said,
        lesson(view, "gpt2_model", "Where these probabilities come from: lesson 07"))),
    el("section", {}, el("h2", {}, "Switch heads off"),
      el("p", {}, "Click a head to ablate it, and watch the probabilities: the mark shows where each was with all heads on."),
      headGrid(view), lesson(view, "looking_inside", "What ablation shows, and what it doesn’t: lesson 12")),
    el("section", {}, el("h2", {}, "What each token attends to"), view.attention,
      lesson(view, "attention", "Build attention yourself: lesson 01")),
    el("section", {}, el("h2", {}, "Layer by layer"),
      el("p", {}, "The next token, if the model stopped after each layer (the logit lens)."),
      view.lens, lesson(view, "looking_inside", "Build the logit lens: lesson 12"))];
}

function lesson({ links }, word, text) {
  return el("p", { class: "front-lesson" }, links[word] ? el("a", { href: links[word] }, text) : text);
}

function sliders(view) {
  const steps = topKSteps(view.config.vocab_size);
  const put = (name, value) => { view.settings[name] = value; showNext(view); };
  return el("div", { class: "front-row controls" },
    slider("temperature", { min: 0, max: 2, step: 0.05, value: view.settings.temperature,
      show: (x) => (x === 0 ? "0 (greedy)" : number(x, 2)) }, (x) => put("temperature", x)),
    slider("top-k", { min: 0, max: steps.length - 1, step: 1, value: steps.length - 1,
      show: (i) => (i === steps.length - 1 ? "off" : String(steps[i])) },
    (i) => put("topK", i === steps.length - 1 ? null : steps[i])),
    slider("top-p", { min: 0.05, max: 1, step: 0.05, value: 1, show: (x) => (x === 1 ? "off" : number(x, 2)) },
      (x) => put("topP", x === 1 ? null : x)));
}

function headGrid(view) {
  const { num_layers: L, num_heads: H } = view.config;
  const button = (layer, head) => {
    const map = layer * H + head, kind = view.heads[map];
    const node = el("button", { type: "button", "aria-pressed": "true",
      "aria-label": `layer ${layer} head ${head}${kind ? `, ${kind}` : ""}`, title: kind || null,
      onclick: () => {
        view.off = view.off.includes(map) ? view.off.filter((one) => one !== map) : [...view.off, map].sort((a, b) => a - b);
        node.setAttribute("aria-pressed", String(!view.off.includes(map)));
        changed(view);
      } }, `L${layer}H${head}`, kind ? el("small", {}, kind) : null);
    return node;
  };
  const rows = Array.from({ length: L }, (_, layer) => Array.from({ length: H }, (_head, head) => button(layer, head)));
  return el("div", { class: "front-heads", style: `--heads:${H}`, role: "group", "aria-label": "heads that are on" }, rows.flat());
}

// ---------------------------------------------------------------- text

function setText(view, text) {
  view.generating = false;
  view.box.value = text;
  view.ids = view.tokenizer.encode(text);
  changed(view);
}

function typed(view) {
  view.generating = false;
  view.ids = view.tokenizer.encode(view.box.value);
  changed(view);
}

function append(view, id) {
  view.ids.push(id);
  view.box.value = view.tokenizer.decode(view.ids);
}

function changed(view) {
  update(view);
  clearTimeout(view.timer);
  view.timer = setTimeout(() => drawAttention(view), PAUSE);
}

/** Ask for what comes next, and show it; only the newest question counts. */
async function update(view, lens = true) {
  const asked = ++view.asked;
  const ids = lastTokens(view.ids, view.config.max_seq_length);
  if (!ids.length) {
    view.status.textContent = "Type at least one character.";
    view.list.replaceChildren();
    return false;
  }
  const answer = await view.ask("read", { ids, off: view.off, lens });
  if (asked !== view.asked) return false;
  view.answer = answer;
  const left = view.ids.length - ids.length;
  view.status.textContent = `${ids.length} of at most ${view.config.max_seq_length} tokens`
    + (left ? `; the first ${left} are outside its context window` : "");
  showNext(view);
  if (answer.lens) showLens(view);
  return true;
}

/** Sample up to `count` tokens, one after the other. */
async function generate(view, count) {
  view.generating = count > 1;
  view.generate.textContent = view.generating ? "Stop" : "Generate";
  let frame = performance.now();
  for (let i = 0; i < count && (view.generating || count === 1) && view.ids.length; i++) {
    const ids = lastTokens(view.ids, view.config.max_seq_length);
    const { logits } = await view.ask("read", { ids, off: view.off, lens: false });
    if (count > 1 && !view.generating) break;
    view.ids.push(draw(shaped(view, logits).probs, view.random));
    if (performance.now() - frame < 30) continue;
    view.box.value = view.tokenizer.decode(view.ids);
    view.box.scrollTop = view.box.scrollHeight;
    await new Promise(requestAnimationFrame);
    frame = performance.now();
  }
  view.box.value = view.tokenizer.decode(view.ids);
  view.box.scrollTop = view.box.scrollHeight;
  stop(view);
  changed(view);
}

function stop(view) {
  view.generating = false;
  view.generate.textContent = "Generate";
}

// ---------------------------------------------------------------- what is shown

function shaped({ settings: { temperature, topK, topP } }, logits) {
  return nextProbs(logits, temperature, topK, topP);
}

function showNext(view) {
  if (!view.answer) return;
  const { probs } = shaped(view, view.answer.logits);
  const before = view.answer.whole && shaped(view, view.answer.whole).probs;
  const order = mostProbableFirst(before ? probs.map((p, i) => Math.max(p, before[i])) : probs).slice(0, LISTED);
  view.list.replaceChildren(...Array.from(order, (id) => el("li", {}, el("button", { type: "button",
    "aria-label": `append ${tokenName(view.names[id])}, probability ${probText(probs[id])}`
      + (before ? `, ${probText(before[id])} with all heads` : ""),
    onclick: () => { append(view, id); changed(view); view.box.focus(); } },
  el("bdi", { class: "mono" }, tokenFace(view.names[id])),
  el("span", { class: "front-bar", style: `--p:${probs[id]};--was:${before ? before[id] : 0}` }),
  el("span", { class: "front-p" }, probText(probs[id]))))));
  clearTimeout(view.speaking);
  view.speaking = setTimeout(() => view.said.say(nextSentence(probs, view.names, view.off)), 700);
}

function showLens(view) {
  const rows = view.answer.lens.map((logits, layer) => {
    const { probs } = nextProbs(logits);
    const best = Array.from(mostProbableFirst(probs).slice(0, LENS_LISTED), (id) => el("td", {},
      el("bdi", { class: "mono" }, tokenFace(view.names[id])), ` ${probText(probs[id])}`));
    const last = layer === view.answer.lens.length - 1;
    return el("tr", {}, el("th", { scope: "row" }, layer === 0 ? "embeddings" : `layer ${layer - 1}${last ? " (output)" : ""}`), best);
  });
  view.lens.replaceChildren(el("table", {}, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "after"),
    ["1st", "2nd", "3rd"].map((text) => el("th", { scope: "col" }, text)))), el("tbody", {}, rows)));
}

/** Return the head that the map opens with: an induction head, if there is one. */
function openingHead({ heads, config: { num_heads: H } }) {
  const map = Math.max(0, heads.lastIndexOf("induction"));
  return { layer: Math.floor(map / H), head: map % H };
}

/** Draw the heads' maps anew; the section keeps its height, so that nothing jumps. */
async function drawAttention(view) {
  if (view.generating || !view.ids.length) return;
  const asked = view.asked;
  const { state } = await view.ask("maps", { names: view.names, off: view.off });
  if (asked !== view.asked) return;
  const figure = el("div", { class: "figure" });
  view.attention.style.minHeight = `${view.attention.offsetHeight}px`;
  const { layer, head } = view.pick ?? openingHead(view);
  view.figure?.stop?.();
  const mounted = mount(figure, { layer, head, measure: "weights", query: state.tokens.length - 1,
    predict: false, simple: true, labels: [], ...state }, { changed: (pick) => { view.pick = pick; } });
  view.attention.replaceChildren(figure);
  view.figure = await mounted;
  view.attention.style.minHeight = "";
}
