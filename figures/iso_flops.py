"""Measure lesson 13's iso-FLOP curves: `python figures/iso_flops.py`, some two hours.

Models of four sizes are trained on the stories, each with the same operations: a larger
model takes fewer steps. What is stored is how far a model is above the exact loss of
the grammar on the same 300 unseen stories, in nats per byte. All runs have lesson 08's
settings (Muon, learning rate 0.02, windows of 257 bytes that begin before a story, 8 in
a batch) and a linear decay; only the seed differs.

Every run is a line of iso_flops.csv, written when the run ends. Runs that are in the
file are not made again: delete it to measure anew.
"""

from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from gpt2_lesson.bench.tables import add_run, read_runs
from gpt2_lesson.corpora import load_text, split
from gpt2_lesson.corpora.stories import nll, stories
from gpt2_lesson.gpt2_model import GPT2Config, GPT2Model
from gpt2_lesson.speed import count_flops
from gpt2_lesson.training import TrainSettings, train

TABLE = Path(__file__).with_name("iso_flops.csv")
COLUMNS = {"flops": float, "layers": int, "seed": int}
COLUMNS |= {"parameters": int, "steps": int, "excess": float}
BUDGETS = {1e11: [1, 2, 3], 3e11: [1, 2, 3, 4], 1e12: [1, 2, 3, 4], 3e12: [1, 2, 3, 4]}
SEEDS = [0, 1, 2]
SEQ_LENGTH, BATCH_SIZE = 256, 8

Run = tuple[float, int, int]  # operations, layers, seed


def config(layers: int) -> GPT2Config:
    """Return the size with so many layers: 32 channels and one head for each."""
    width = 32 * layers
    return GPT2Config(256, width, layers, layers, SEQ_LENGTH, 4 * width, 0.0)


def steps(budget: float, layers: int) -> int:
    """Return how many training steps the budget buys: three forward passes each."""
    step = 3 * count_flops(config(layers), SEQ_LENGTH) * BATCH_SIZE
    return max(1, round(budget / step))


def unseen(count: int) -> tuple[Tensor, float]:
    """Return windows of stories, padded with newlines, and the exact mean NLL.

    A window begins with a newline; what is predicted is one story, its newline too.
    """
    texts = stories(count, seed=13).splitlines(keepends=True)
    ids = torch.full((count, SEQ_LENGTH + 1), 10)
    for row, text in zip(ids, texts, strict=True):
        row[1 : 1 + len(text)] = torch.tensor(list(text.encode()))
    exact = [nats for text in texts for nats in nll(text)]
    return ids, sum(exact) / len(exact)


@torch.no_grad()
def loss(model: GPT2Model, windows: Tensor) -> float:
    """Return the mean NLL of the stories in `windows`, in nats per byte."""
    model.eval()
    total = count = 0
    for ids in windows.split(50):
        targets = ids[:, 1:]
        nats = -model(ids[:, :-1]).log_softmax(-1).gather(2, targets[..., None])[..., 0]
        ended = (targets == 10).cumsum(1) - (targets == 10).int()  # newlines before
        total += nats[ended == 0].sum().item()
        count += (ended == 0).sum().item()
    return total / count


def excess(budget: float, layers: int, seed: int, count: int = 300) -> float:
    """Train one model; return its loss above the exact one, in nats per byte."""
    text = torch.tensor(list(split(load_text("stories"))[0]), dtype=torch.uint8)
    starts = (text == 10).nonzero()[:-1, 0]
    number = steps(budget, layers)
    settings = TrainSettings(
        steps=number,
        seq_length=SEQ_LENGTH + 1,
        batch_size=BATCH_SIZE,
        max_lr=0.02,
        warmup_steps=min(20, max(1, number // 5)),
        decay="linear",
        weight_decay=0.0,
        optimizer="muon",
        seed=seed,
    )
    torch.manual_seed(seed)
    model = GPT2Model(**vars(config(layers)))
    train(model, text, settings, starts=starts, progress=False)
    windows, exact = unseen(count)
    return loss(model, windows) - exact


def stored() -> dict[Run, float]:
    """Return the loss above the exact one of every run in the table."""
    return {row[:3]: row[-1] for row in read_runs(TABLE, COLUMNS)}


def main() -> None:
    """Make the runs that are missing, small budgets first."""
    known = stored()
    wanted = [
        (budget, layers, seed)
        for seed in SEEDS
        for budget, sizes in BUDGETS.items()
        for layers in sizes
    ]
    for budget, layers, seed in tqdm([run for run in wanted if run not in known]):
        above = excess(budget, layers, seed)
        model = GPT2Model(**vars(config(layers)))
        parameters = sum(p.numel() for p in model.parameters())
        run = f"{budget:g}", layers, seed, parameters, steps(budget, layers)
        add_run(TABLE, COLUMNS, run, above)


if __name__ == "__main__":
    main()
