"""Measure lesson 16's table: `python figures/reward_frontier.py`, ten minutes.

Each method takes 40 steps on 32 openings. Its learning rate is the power of two with
the highest objective, success rate - beta * KL, by seed 0; a rate counts as the best
when both of its neighbours were tried and are worse. The result is that of seeds 1 to 3
at this rate. What is trained and measured, and how, are cells of the lesson itself.

Every run is a line of reward_frontier.csv, written when the run ends. Runs that are in
the file are not made again: delete it to measure anew.
"""

import csv
import io
from contextlib import redirect_stdout
from pathlib import Path

import nbformat
from tqdm import tqdm

from gpt2_lesson import rewards

FOLDER = Path(__file__).parent
TABLE = FOLDER / "reward_frontier.csv"
LESSON = FOLDER.parent / "notebooks" / "16_rewards.ipynb"
CELLS = ["tools", "openings", "obeys", "optimizer-for", "train-with", "measure"]
CELLS += ["pairs-of"]
METHODS = {  # name -> function of the lesson, its settings
    "policy gradient": ("train_with", {}),
    "the same, two steps a rollout": ("train_with", {"rollouts": 20, "steps": 2}),
    "DPO": ("train_dpo", {}),
    "DPO, a judge without doubt": ("train_dpo", {"sure": True}),
}
CASES = [(method, 0.24) for method in METHODS]
START = -11  # the first rate tried is 2 ** START
SEEDS = [1, 2, 3]

Run = tuple[str, float, float, int]  # method, beta, max_lr, seed
Result = tuple[float, float, float]  # success rate, KL, rate of obeying openings


def lesson() -> dict:
    """Return the names that the lesson's cells define."""
    sources = {cell.id: cell.source for cell in nbformat.read(LESSON, 4).cells}
    names = vars(rewards).copy()  # what the lesson exports
    with redirect_stdout(io.StringIO()):
        for cell in CELLS:
            exec(sources[cell], names)
    return names


def measured(names: dict, method: str, beta: float, max_lr: float, seed: int) -> Result:
    """Train with a method, and measure the result."""
    function, settings = METHODS[method]
    reward = (names["about_nora"],) * (function == "train_with")
    return names["measure"](names[function](*reward, beta, max_lr, seed, **settings))


def stored() -> dict[Run, Result]:
    """Return the result of every run in the table."""
    with open(TABLE, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    return {
        (method, float(beta), float(max_lr), int(seed)): tuple(map(float, result))
        for method, beta, max_lr, seed, *result in rows
    }


def main() -> None:
    """Make the runs that are missing."""
    if not TABLE.exists():
        TABLE.write_text("method,beta,max_lr,seed,rate,kl,obey\n", encoding="utf-8")
    names, known = lesson(), stored()
    bar = tqdm(unit="run")

    def objective(method: str, beta: float, power: int, seed: int = 0) -> float:
        run = method, beta, 2.0**power, seed
        if run not in known:
            bar.set_postfix_str(str(run))
            known[run] = measured(names, *run)
            with open(TABLE, "a", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\n").writerow(
                    [*run, *(f"{value:.4f}" for value in known[run])]
                )
            bar.update()
        rate, kl, _ = known[run]
        return rate - beta * kl

    for method, beta in CASES:
        power = START
        while True:  # uphill, until both sides are worse
            around = [power, power - 1, power + 1]
            best = max(around, key=lambda power: objective(method, beta, power))
            if best == power:
                break
            power = best
        for seed in SEEDS:
            objective(method, beta, power, seed)


if __name__ == "__main__":
    main()
