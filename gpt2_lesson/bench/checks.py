"""How long the checks of the exercises take."""

from functools import partial
from statistics import median

import torch
import torch.nn as nn
from torch import Tensor
from tqdm import tqdm

from gpt2_lesson.checks import all_exercises
from gpt2_lesson.checks.diagnosis import diagnose
from gpt2_lesson.checks.exercise import Exercise
from gpt2_lesson.checks.probing import observe
from gpt2_lesson.training import make_optimizer


def time_checks(rounds: int, limit: float = 1.0) -> int:
    """Print how long the checks take; return 0, or 1 if one takes over `limit` seconds.

    Each check sees every mistake of its list, and a function that is like none, which
    is compared with all of them. A check is slowest the first time, when what the
    mistakes do is not known yet; what torch imports for a first optimizer is not ours.
    """
    make_optimizer(nn.Linear(1, 1), max_lr=1e-4)
    functions = {
        name: one
        for name, one in all_exercises().items()
        if isinstance(one, Exercise) and not one.given
    }
    first, later = {}, {}
    for name, exercise in tqdm(functions.items(), desc="checks", leave=False):
        wrong = [exercise.with_mistakes(mistake.id) for mistake in exercise.mistakes]
        first[name] = diagnose(exercise, partial(observe, _like_no_mistake)).seconds
        runs = [partial(observe, function) for function in [_like_no_mistake, *wrong]]
        later[name] = max(
            median(diagnose(exercise, run).seconds for _ in range(rounds))
            for run in runs
        )
    print(
        f"the checks of {len(first)} functions, each on every mistake of its list, "
        f"medians of {rounds} rounds"
    )
    for title, seconds in (("the first time", first), ("after that", later)):
        name = max(seconds, key=seconds.__getitem__)
        print(
            f"{title:14}  half within {median(seconds.values()):.2f} s, "
            f"the slowest ({name}) {seconds[name]:.2f} s"
        )
    return int(max(*first.values(), *later.values()) > limit)


def _like_no_mistake(*args: object, **more: object) -> Tensor:
    return torch.full((2, 2), 0.123)
