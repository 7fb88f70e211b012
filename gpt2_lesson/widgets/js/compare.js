// Mine against the reference: the stages, and the maps of both and of their difference.

import { cellMap, choice, el, isDark, namesRoom, onTheme, speaker, tableView } from "./core.js";
import { colourTable, placeIn, scaleOf } from "./numbers/colours.js";
import { cellsDiffer, keptWords, mapName, stageWords } from "./numbers/compare.js";
import { unpackFloats } from "./numbers/packing.js";
import { number, shortCell, sixDigits, tokenFace, tokenName } from "./numbers/text.js";

const MOST_LISTED = 50; // cells in the table

/** Fill `root` with the comparison. */
export async function mount(root, state) {
  const { stages, tokens, atol } = state;
  const now = { stage: state.start, map: 0, row: 0, column: 0, cells: null };
  const said = speaker();
  const failed = stages.some((stage) => stage.differs);
  const buttons = stages.map((stage, i) => el("button", { type: "button", class: "comp-stage", "aria-pressed": "false",
    onclick: () => open(i) },
  el("span", { class: stage.differs ? "comp-bad" : "comp-good", "aria-hidden": "true" }, stage.differs ? "\u2260" : "="),
  el("span", {}, el("bdi", { class: "comp-name" }, stage.name), el("span", { class: "comp-words" },
    `${stage.differs && i === state.start ? "the first: " : ""}${stageWords(stage)}`))));
  const list = el("div", { class: "scroll comp-list", tabindex: "0", role: "region", "aria-label": "stages, in the order of computation" }, buttons);
  const stageName = el("h2", {});
  const holder = el("div", {});
  const extra = state.extra.length ? el("p", { class: "quiet" }, `Only yours has: ${state.extra.join(", ")}; not compared.`) : "";
  const table = tableView(`Table: cells that differ, the first ${MOST_LISTED}`, ["place", "yours", "expected", "difference"], listed);
  root.replaceChildren(
    el("p", { class: `comp-head ${failed ? "comp-bad" : "comp-good"}` }, state.headline),
    el("div", { class: "columns comp" }, el("div", { class: "comp-left" }, el("h2", {}, "stages"), list),
      el("div", { class: "comp-right" }, stageName, holder, said)), extra, table);
  let maps = [];
  let rowRoom = 0;
  onTheme(() => maps.length && paint());
  addEventListener("resize", () => maps.length && paint());
  await open(state.start);
  root.dataset.ready = "";

  async function open(index) {
    const stage = stages[index];
    now.asked = index;
    const [mine, expected, apart] = stage.mine ? await Promise.all([stage.mine, stage.expected, stage.apart].map(unpackFloats)) : [];
    if (now.asked !== index) return; // the reader has gone on
    const [map, row, column] = stage.focus ?? [0, 0, 0];
    Object.assign(now, { stage: index, map, row, column, mine, expected, apart });
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(i === index)));
    list.scrollTop = buttons[index].offsetTop - list.offsetTop - 60;
    stageName.textContent = stage.name;
    maps = [];
    holder.replaceChildren(...(stage.mine ? threeMaps(stage) : []));
    if (stage.mine) paint(); else said.say(`${stage.name}: ${stageWords(stage)}.`);
    table.refresh();
  }
  function at(side, row, column) {
    const { rows, columns } = stages[now.stage];
    return now[side][(now.map * rows + row) * columns + column];
  }
  function off(row, column) { return at("apart", row, column); }
  function threeMaps(stage) {
    const { rows, columns, top, left, shape } = stage;
    const names = (from, size, count) => Array.from({ length: count }, (_, i) => (size === tokens.length ? tokenFace(tokens[from + i]) : String(from + i)));
    const rowNames = shape.length > 1 ? names(top, shape[shape.length - 2], rows) : null;
    rowRoom = rowNames ? namesRoom(rowNames) : 0;
    maps = ["yours", "expected", "yours \u2212 expected"].map((title) => cellMap({ title, rows, columns,
      rowNames,
      columnNames: shape.length ? names(left, shape[shape.length - 1], columns) : null,
      onread: (row, column) => { Object.assign(now, { row, column }); read(); } }));
    const pick = stage.maps.length > 1 ? choice("map", stage.maps.map((places, i) => [i, mapTitle(stage, i)]), now.map,
      (i) => { now.map = Number(i); paint(); table.refresh(); }) : el("span", { class: "quiet" }, keptWords(stage));
    return [el("div", { class: "controls" }, pick), el("div", { class: "comp-maps" }, maps.map((map) => map.node)),
      el("p", { class: "quiet" }, scaleWords(stage))];
  }
  function mapTitle(stage, i) {
    const size = stage.rows * stage.columns;
    for (let c = i * size; c < (i + 1) * size; c++) {
      if (cellsDiffer(now.apart[c], atol)) return `${mapName(stage.axes, stage.maps[i])}: differs`;
    }
    return `${mapName(stage.axes, stage.maps[i])}: equal`;
  }
  function scaleWords(stage) {
    const cut = stage.rows * stage.columns < (stage.shape.at(-2) ?? 1) * (stage.shape.at(-1) ?? 1)
      ? ` Shown: rows ${stage.top} to ${stage.top + stage.rows - 1}, columns ${stage.left} to ${stage.left + stage.columns - 1} of ${stage.shape.join(" \u00d7 ")}.` : "";
    return `Yours and expected share one scale; the difference has its own: red is too large, blue too small, hatched is not a number.${cut}`;
  }
  function paint() {
    const { rows, columns } = stages[now.stage];
    const cells = Array.from({ length: rows * columns }, (_, i) => [Math.floor(i / columns), i % columns]);
    const both = scaleOf(cells.flatMap(([t, s]) => [at("mine", t, s), at("expected", t, s)]));
    const apart = { ...scaleOf(cells.map(([t, s]) => off(t, s))), signed: true };
    const wide = holder.clientWidth || root.clientWidth - 16;
    const flat = columns > 4 * rows;
    holder.classList.toggle("comp-flat", flat);
    const narrow = root.clientWidth < 620;
    const room = flat ? wide - 90 : wide / 3 - (narrow ? 8 : 12 + rowRoom);
    const fits = Math.min(36, room / columns, Math.max(260 / rows, 3));
    const cell = flat ? Math.max(14, fits) : fits; // strips scroll before they get too thin
    maps.forEach((map, i) => {
      const value = [(t, s) => at("mine", t, s), (t, s) => at("expected", t, s), off][i];
      const scale = i < 2 ? both : apart;
      map.paint({ cell, share: (t, s) => (i === 2 && Math.abs(value(t, s)) === Infinity ? Number(value(t, s) > 0) : placeIn(value(t, s), scale)),
        table: colourTable(scale.signed ? "signed" : "shares", isDark()),
        write: cell >= 34 ? (t, s) => shortCell(value(t, s)) : null });
    });
    if (narrow && !flat) maps.forEach((map) => map.node.querySelectorAll(".cell-names").forEach((names) => { names.hidden = true; }));
    read();
  }
  function read() {
    const stage = stages[now.stage];
    maps.forEach((map) => map.mark(now.row, now.column));
    const [mine, expected] = [at("mine", now.row, now.column), at("expected", now.row, now.column)];
    const same = cellsDiffer(off(now.row, now.column), atol) ? "" : ", within the tolerance";
    said.say(`${placeWords(stage, now.map, now.row, now.column)}: yours ${sixDigits(mine)}, expected ${sixDigits(expected)}, difference ${sixDigits(off(now.row, now.column))}${same}.`);
  }
  function placeWords(stage, map, row, column) {
    const { axes, shape, top, left } = stage;
    const lead = stage.maps[map].map((place, i) => `${axes[i]} ${place}`);
    const named = (i, size) => (size === tokens.length ? ` (\u201c${tokenName(tokens[i])}\u201d)` : "");
    const places = shape.length > 1 ? [`row ${top + row}${named(top + row, shape.at(-2))}`, `column ${left + column}${named(left + column, shape.at(-1))}`]
      : shape.length ? [`place ${left + column}${named(left + column, shape[0])}`] : ["the number"];
    return [...lead, ...places].join(", ");
  }
  function listed() {
    const stage = stages[now.stage];
    const found = [];
    for (let i = 0; stage.mine && i < now.mine.length && found.length < MOST_LISTED; i++) {
      if (!cellsDiffer(now.apart[i], atol)) continue;
      const [map, rest] = [Math.floor(i / (stage.rows * stage.columns)), i % (stage.rows * stage.columns)];
      found.push([placeWords(stage, map, Math.floor(rest / stage.columns), rest % stage.columns),
        sixDigits(now.mine[i]), sixDigits(now.expected[i]), sixDigits(now.apart[i])]);
    }
    return found.length ? found : [["none", "", "", ""]];
  }
}
