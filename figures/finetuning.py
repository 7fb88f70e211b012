"""Measure lesson 15's comparison: `python figures/finetuning.py`, some fifteen minutes.

Each way of finetuning the story model is run for 150 steps, with powers of two as
learning rates, until both neighbours of the best one are worse, by the loss on the
answers of the validation set, with seed 0. Rates within NEAR of the lowest loss learn
the task equally well, and the larger ones forget more, so the smallest of them is
taken. The result is that of seeds 1 to 3 at this rate. How a model is trained and
measured are cells of the lesson itself.

Every run is a line of finetuning.csv, written when the run ends. Runs that are in the
file are not made again: delete it to measure anew. At the end a table is printed.
"""

import io
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from gpt2_lesson import finetuning
from gpt2_lesson.bench.tables import add_run, lesson_names, lowest_power, read_runs
from gpt2_lesson.corpora import story_model
from gpt2_lesson.gpt2_model import GPT2Model

FOLDER = Path(__file__).parent
TABLE = FOLDER / "finetuning.csv"
LESSON = FOLDER.parent / "notebooks" / "15_finetuning.ipynb"
CELLS = ["tools", "requests", "is-opening", "rows", "report", "finetune"]
STEPS, SEEDS = 150, (1, 2, 3)
NEAR = 0.003  # nats per token of the answers
COLUMNS = {"way": str, "max_lr": float, "seed": int}
COLUMNS |= {"obeys": float, "answers": float, "ordinary": float}
START = {  # the first rate tried is 2 to this power
    "full": -10,
    "last layer": -8,
    "LoRA, rank 1": -6,
    "LoRA, rank 4": -6,
}
Run = tuple[str, float, int]  # way, max_lr, seed


def lesson() -> dict:
    """Return the names that the lesson's cells define."""
    return lesson_names(LESSON, CELLS, finetuning)


def prepare(way: str, seed: int) -> GPT2Model:
    """Return the story model with everything frozen that this way does not train."""
    model = story_model()
    torch.manual_seed(seed)
    if way == "last layer":
        model.requires_grad_(False)
        for part in (model.blocks[-1], model.ln_final):
            part.requires_grad_(True)
    elif way.startswith("LoRA"):
        finetuning.add_lora(model, rank=int(way.split()[2]))
    return model


def measure(names: dict, way: str, max_lr: float, seed: int) -> list[float]:
    """Return the three measures after one run."""
    model = prepare(way, seed)
    rows = names["ids"], names["targets"]
    names["finetune"](model, rows, STEPS, max_lr, seed)
    with redirect_stdout(io.StringIO()):
        return names["report"](way, model)


def stored() -> dict[Run, list[float]]:
    """Return the measures of every run in the table."""
    return {row[:3]: list(row[3:]) for row in read_runs(TABLE, COLUMNS)}


def chosen(way: str, known: dict[Run, list[float]]) -> float:
    """Return the smallest learning rate that is as good as the best, by seed 0."""
    losses = {
        rate: numbers[1]
        for (one, rate, seed), numbers in known.items()
        if one == way and seed == 0
    }
    return min(rate for rate in losses if losses[rate] <= min(losses.values()) + NEAR)


def main() -> None:
    """Make the runs that are missing, and print the table."""
    known, names = stored(), lesson()
    bar = tqdm(unit="run", disable=None)

    def result(*run: *Run) -> list[float]:
        if run not in known:
            bar.set_postfix_str(str(run))
            known[run] = measure(names, *run)
            add_run(TABLE, COLUMNS, run, *known[run])
            bar.update()
        return known[run]

    def loss(way: str, power: int) -> float:
        return result(way, 2.0**power, 0)[1]

    lines = []
    for way, power in START.items():
        lowest_power(power, partial(loss, way))
        rate = chosen(way, known)
        runs = [result(way, rate, seed) for seed in SEEDS]
        trains = sum(p.numel() for p in prepare(way, 0).parameters() if p.requires_grad)
        means = [sum(numbers) / len(SEEDS) for numbers in zip(*runs, strict=True)]
        lines.append(
            f"{way:21} {trains:8,}  {rate:.4f}  "
            f"{means[0]:5.2f}  {means[1]:7.3f}  {means[2]:8.3f}"
        )
    bar.close()
    print("                      trains     rate  obeys  answers  ordinary")
    print(*lines, sep="\n")


if __name__ == "__main__":
    main()
