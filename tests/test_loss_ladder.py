"""Lesson 08's stored loss ladder: each rung at its best rate, three runs each."""

import math
import runpy
from pathlib import Path

import pytest

SCRIPT = runpy.run_path(str(Path(__file__).parents[1] / "figures" / "loss_ladder.py"))
TABLE = SCRIPT["stored"]()


def test_the_table_has_every_rung_with_every_number_of_steps() -> None:
    rungs = SCRIPT["lesson"]()["Rung"].rungs
    assert {run[:2] for run in TABLE} == {
        (rung, steps) for rung in rungs for steps in SCRIPT["BUDGETS"]
    }


@pytest.mark.parametrize("rung, steps", sorted({run[:2] for run in TABLE}))
def test_a_rate_with_worse_neighbours_is_run_three_times(rung: str, steps: int) -> None:
    losses = {run[2:]: loss for run, loss in TABLE.items() if run[:2] == (rung, steps)}
    [rate] = {rate for rate, seed in losses if seed in SCRIPT["SEEDS"]}
    assert {seed for _, seed in losses} == {0, *SCRIPT["SEEDS"]}
    assert losses[rate, 0] < min(losses[rate / 2, 0], losses[2 * rate, 0])


def test_the_script_trains_what_the_lesson_defines() -> None:
    losses, validation = SCRIPT["lesson"]()["climb"]("+ norm", 2, 0.01)
    assert len(losses) == 2 and abs(validation - math.log(256)) < 1
