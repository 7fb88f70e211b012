"""Measure lesson 08's loss ladder: `python figures/loss_ladder.py`, ten minutes.

Each rung is trained with each number of steps. The learning rate is the best of the
powers of two for that rung and that number of steps, by the validation loss of seed 0;
a rate counts as the best when both of its neighbours were tried and are worse. The
result is that of seeds 1 to 3 at this rate. What is trained, and how, are the cells
`rung` and `climb` of the lesson itself.

Every run is a line of loss_ladder.csv, written when the run ends. Runs that are in the
file are not made again: delete it to measure anew.
"""

import math
from functools import partial
from pathlib import Path

from tqdm import tqdm

from gpt2_lesson import training
from gpt2_lesson.bench.tables import add_run, lesson_names, lowest_power, read_runs

FOLDER = Path(__file__).parent
TABLE = FOLDER / "loss_ladder.csv"
LESSON = FOLDER.parent / "notebooks" / "08_training.ipynb"
CELLS = ["tools", "text-stories-seed-tokens-torch", "rung", "climb"]
COLUMNS = {"rung": str, "steps": int, "max_lr": float, "seed": int, "loss": float}
BUDGETS = [500, 1000, 2000]
START = -7  # the first rate tried is 2 ** START
SEEDS = [1, 2, 3]

Run = tuple[str, int, float, int]  # rung, steps, max_lr, seed


def lesson() -> dict:
    """Return the names that the lesson's cells define."""
    return lesson_names(LESSON, CELLS, training)


def stored() -> dict[Run, float]:
    """Return the validation loss of every run in the table."""
    return {tuple(run): loss for *run, loss in read_runs(TABLE, COLUMNS)}


def main() -> None:
    """Make the runs that are missing."""
    names, known = lesson(), stored()
    bar = tqdm(unit="step", unit_scale=True)

    def loss_of(rung: str, steps: int, power: int, seed: int = 0) -> float:
        run = rung, steps, 2.0**power, seed
        if run not in known:
            bar.set_postfix_str(str(run))
            try:
                known[run] = names["climb"](*run)[1]
            except FloatingPointError:  # the learning rate is too large
                known[run] = math.inf
            add_run(TABLE, COLUMNS, run, known[run])
            bar.update(steps)
        return known[run]

    for rung in names["Rung"].rungs:
        power = START
        for steps in BUDGETS:
            power = lowest_power(power, partial(loss_of, rung, steps))
            for seed in SEEDS:
                loss_of(rung, steps, power, seed)


if __name__ == "__main__":
    main()
