"""Measure lesson 16's table: `python figures/reward_frontier.py`, ten minutes.

Each method takes 40 steps on 32 openings. Its learning rate is the power of two with
the highest objective, success rate - beta * KL, by seed 0; a rate counts as the best
when both of its neighbours were tried and are worse. The result is that of seeds 1 to 3
at this rate. What is trained and measured, and how, are cells of the lesson itself.

Every run is a line of reward_frontier.csv, written when the run ends. Runs that are in
the file are not made again: delete it to measure anew.
"""

from functools import partial
from pathlib import Path

from tqdm import tqdm

from gpt2_lesson import rewards
from gpt2_lesson.bench.tables import add_run, lesson_names, lowest_power, read_runs

FOLDER = Path(__file__).parent
TABLE = FOLDER / "reward_frontier.csv"
LESSON = FOLDER.parent / "notebooks" / "16_rewards.ipynb"
CELLS = ["tools", "openings", "obeys", "optimizer-for", "train-with", "measure"]
CELLS += ["pairs-of"]
COLUMNS = {"method": str, "beta": float, "max_lr": float, "seed": int}
COLUMNS |= {"rate": float, "kl": float, "obey": float}
METHODS = {  # name -> function of the lesson, its settings
    "policy gradient": ("train_with", {}),
    "policy gradient, two steps a batch": ("train_with", {"rollouts": 20, "steps": 2}),
    "DPO": ("train_dpo", {}),
    "DPO, a judge who is sure": ("train_dpo", {"sure": True}),
}
CASES = [(method, 0.24) for method in METHODS]
START = -11  # the first rate tried is 2 ** START
SEEDS = [1, 2, 3]

Run = tuple[str, float, float, int]  # method, beta, max_lr, seed
Result = tuple[float, float, float]  # success rate, KL, rate of obeying openings


def lesson() -> dict:
    """Return the names that the lesson's cells define."""
    return lesson_names(LESSON, CELLS, rewards)


def measured(names: dict, method: str, beta: float, max_lr: float, seed: int) -> Result:
    """Train with a method, and measure the result."""
    function, settings = METHODS[method]
    reward = (names["about_nora"],) * (function == "train_with")
    return names["measure"](names[function](*reward, beta, max_lr, seed, **settings))


def stored() -> dict[Run, Result]:
    """Return the result of every run in the table."""
    return {row[:4]: row[4:] for row in read_runs(TABLE, COLUMNS)}


def main() -> None:
    """Make the runs that are missing."""
    names, known = lesson(), stored()
    bar = tqdm(unit="run")

    def loss(method: str, beta: float, power: int, seed: int = 0) -> float:
        run = method, beta, 2.0**power, seed
        if run not in known:
            bar.set_postfix_str(str(run))
            known[run] = measured(names, *run)
            add_run(TABLE, COLUMNS, run, *known[run])
            bar.update()
        rate, kl, _ = known[run]
        return beta * kl - rate  # minus the objective

    for method, beta in CASES:
        power = lowest_power(START, partial(loss, method, beta))
        for seed in SEEDS:
            loss(method, beta, power, seed)


if __name__ == "__main__":
    main()
