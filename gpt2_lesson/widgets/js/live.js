// The live figure: a text box over the attention map. Texts go to the kernel, and what
// the model did with them comes back as bytes; what the reader has chosen is shared with Python.

import { mount } from "./attention.js";
import { el } from "./core.js";

const SHARED = ["layer", "head", "query", "key", "locked", "measure"];
const PACKED_PARTS = ["weights", "totals", "sizes"];
const TYPING = 400; // milliseconds without a key until a text is sent
const PATIENCE = 5000; // until the reader is told that the kernel is busy

/** Return a message's state with its packed numbers put back from the buffers. */
export function withBuffers(state, buffers) {
  const whole = { ...state };
  for (const name of PACKED_PARTS) {
    const { buffer, byteOffset, byteLength } = buffers[state[name].data];
    whole[name] = { ...state[name], data: new Uint8Array(buffer, byteOffset, byteLength) };
  }
  return whole;
}

/** Return {ask, takes, pending}: numbered requests of which only the newest counts.
 *
 * takes(answer) says whether an answer is to be shown: the one to our newest request,
 * and, while we wait for none, what Python or another view has asked for.
 */
export function requests(name) {
  let count = 0;
  let waiting = null;
  return {
    ask() { waiting = `${name}-${++count}`; return waiting; },
    takes({ request, error }) {
      if (waiting === null) return error === undefined && !this.isOwn({ request });
      if (request !== waiting) return false;
      waiting = null;
      return true;
    },
    isOwn: ({ request }) => String(request).startsWith(`${name}-`),
    get pending() { return waiting !== null; },
  };
}

/** Fill `host` with the figure of an anywidget model; return what undoes it. */
function renderLive({ model, el: host }) {
  const view = { model, own: requests(Math.random().toString(36).slice(2)), timers: {}, quiet: false };
  buildLive(view);
  host.replaceChildren(view.root);
  const listeners = [["msg:custom", (message, buffers) => receive(view, message, buffers)],
    ...SHARED.map((name) => [`change:${name}`, () => follow(view)])];
  for (const [name, listener] of listeners) model.on(name, listener);
  request(view, null);
  return () => {
    for (const timer of Object.values(view.timers)) clearTimeout(timer);
    for (const [name, listener] of listeners) model.off(name, listener);
    view.figure?.stop?.();
  };
}

function buildLive(view) {
  view.box = el("input", { type: "text", spellcheck: "false", autocomplete: "off",
    oninput: () => {
      clearTimeout(view.timers.typing);
      view.timers.typing = setTimeout(() => askFor(view), TYPING);
    },
    onkeydown: (event) => { if (event.key === "Enter") askFor(view, true); } });
  view.status = el("p", { class: "live-status", role: "status" });
  view.holder = el("div", { role: "group", "aria-label": "attention map" });
  view.root = el("div", { class: "figure live" },
    el("label", { class: "live-text" }, "text", view.box), view.status, view.holder);
}

/** Ask for the text in the box, if it is a new one; `now`: do not wait for an answer. */
function askFor(view, now = false) {
  clearTimeout(view.timers.typing);
  if (view.own.pending && !now) return; // receive() asks again
  if (view.box.value !== view.asked) request(view, view.box.value);
}

/** Ask the kernel for the map of a text; null asks for the text it has. */
function request(view, text) {
  view.asked = text;
  say(view, text === null ? "" : "reading the text …");
  view.root.setAttribute("aria-busy", "true");
  clearTimeout(view.timers.busy);
  view.timers.busy = setTimeout(() => say(view,
    "No answer yet: the kernel is busy with another cell, or has stopped."), PATIENCE);
  view.model.send({ request: view.own.ask(), text });
}

function say(view, text, failed = false) {
  view.status.textContent = text;
  view.status.classList.toggle("live-failed", failed);
}

async function receive(view, message, buffers) {
  if (!view.own.takes(message)) return;
  clearTimeout(view.timers.busy);
  view.root.removeAttribute("aria-busy");
  say(view, message.error ?? "", message.error !== undefined);
  if (message.error === undefined) {
    const typed = view.asked !== null || view.box.value;
    if (!typed || !view.own.isOwn(message)) view.box.value = view.asked = message.text;
    await show(view, withBuffers(message.state, buffers));
  }
  askFor(view); // more may have been typed since
}

/** Draw a new text; the figure keeps its height meanwhile, so that nothing jumps. */
async function show(view, state) {
  const root = el("div", { class: "figure" });
  view.holder.style.minHeight = `${view.holder.offsetHeight}px`;
  view.holder.replaceChildren(root);
  view.figure?.stop?.();
  view.figure = null;
  const figure = await mount(root, state, { changed: (change) => share(view, change) });
  if (!root.isConnected) return figure.stop?.(); // another text has come meanwhile
  view.figure = figure;
  view.holder.style.minHeight = "";
  follow(view);
}

/** Tell Python what the reader has chosen. */
function share(view, change) {
  view.quiet = true;
  for (const name of SHARED) if (name in change) view.model.set(name, change[name]);
  view.quiet = false;
  view.model.save_changes();
}

/** Show what Python, or another view, shows. */
function follow(view) {
  if (view.quiet || !view.figure) return;
  view.figure.set(Object.fromEntries(SHARED.map((name) => [name, view.model.get(name)])));
}

export default { render: renderLive };
