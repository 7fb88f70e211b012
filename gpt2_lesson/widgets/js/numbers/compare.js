// Two implementations side by side: which cells differ, as text.

import { twoDigits } from "./text.js";

/** Return whether cells so far apart differ: beyond atol, or only one is a number. */
export const cellsDiffer = (apart, atol) => Number.isNaN(apart) || Math.abs(apart) > atol;

/** Return what a stage has to say, in a few words. */
export function stageWords(stage) {
  if (stage.reason) return stage.reason;
  if (stage.largest == null) return "empty";
  if (!stage.differs) return stage.largest === 0 ? "equal" : `equal within the tolerance, at most ${twoDigits(stage.largest)}`;
  return stage.largest === "infinite" ? "differs: NaN or infinity on one side" : `differs by up to ${twoDigits(stage.largest)}`;
}

/** Return a map's name from its places on the leading axes: "batch 0, head 2". */
export function mapName(axes, places) {
  return places.map((place, i) => `${axes[i]} ${place}`).join(", ") || "the only map";
}

/** Return which maps are here if not all are. */
export function keptWords(stage) {
  if (stage.count === 1) return stage.maps[0].length ? mapName(stage.axes, stage.maps[0]) : "";
  return `${mapName(stage.axes, stage.maps[0])}, the one of ${stage.count} maps that ${stage.differs ? "differs first" : "differs most"}; the others did not fit into the page`;
}
