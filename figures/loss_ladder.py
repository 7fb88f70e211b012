"""Measure lesson 08's loss ladder: `python figures/loss_ladder.py`, ten minutes.

Each rung is trained with each number of steps. The learning rate is the best of the
powers of two for that rung and that number of steps, by the validation loss of seed 0;
a rate counts as the best when both of its neighbours were tried and are worse. The
result is that of seeds 1 to 3 at this rate. What is trained, and how, are the cells
`rung` and `climb` of the lesson itself.

Every run is a line of loss_ladder.csv, written when the run ends. Runs that are in the
file are not made again: delete it to measure anew.
"""

import csv
import io
import math
from contextlib import redirect_stdout
from pathlib import Path

import nbformat
from tqdm import tqdm

from gpt2_lesson import training

FOLDER = Path(__file__).parent
TABLE = FOLDER / "loss_ladder.csv"
LESSON = FOLDER.parent / "notebooks" / "08_training.ipynb"
CELLS = ["tools", "text-stories-seed-tokens-torch", "rung", "climb"]
BUDGETS = [500, 1000, 2000]
START = -7  # the first rate tried is 2 ** START
SEEDS = [1, 2, 3]

Run = tuple[str, int, float, int]  # rung, steps, max_lr, seed


def lesson() -> dict:
    """Return the names that the lesson's cells define."""
    sources = {cell.id: cell.source for cell in nbformat.read(LESSON, 4).cells}
    names = vars(training).copy()  # what the lesson exports
    with redirect_stdout(io.StringIO()):
        for cell in CELLS:
            exec(sources[cell], names)
    return names


def stored() -> dict[Run, float]:
    """Return the validation loss of every run in the table."""
    with open(TABLE, encoding="utf-8", newline="") as file:
        return {
            (
                row["rung"],
                int(row["steps"]),
                float(row["max_lr"]),
                int(row["seed"]),
            ): float(row["loss"])
            for row in csv.DictReader(file)
        }


def main() -> None:
    """Make the runs that are missing."""
    if not TABLE.exists():
        TABLE.write_text("rung,steps,max_lr,seed,loss\n", encoding="utf-8")
    names, known = lesson(), stored()
    bar = tqdm(unit="step", unit_scale=True)

    def loss_of(*run: *Run) -> float:
        if run not in known:
            bar.set_postfix_str(str(run))
            try:
                known[run] = names["climb"](*run)[1]
            except FloatingPointError:  # the learning rate is too large
                known[run] = math.inf
            with open(TABLE, "a", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow(
                    [*run, f"{known[run]:.4f}"]
                )
            bar.update(run[1])
        return known[run]

    for rung in names["Rung"].rungs:
        power = START
        for steps in BUDGETS:
            while True:  # downhill, until both sides are worse
                around = [power, power - 1, power + 1]
                best = min(around, key=lambda p: loss_of(rung, steps, 2.0**p, 0))
                if best == power:
                    break
                power = best
            for seed in SEEDS:
                loss_of(rung, steps, 2.0**power, seed)


if __name__ == "__main__":
    main()
