"""Lesson 13's stored iso-FLOP curves: complete, and as the lesson says."""

import runpy
from pathlib import Path

SCRIPT = runpy.run_path(str(Path(__file__).parents[1] / "figures" / "iso_flops.py"))
TABLE = SCRIPT["stored"]()


def test_the_table_has_every_budget_with_every_size_and_seed() -> None:
    assert set(TABLE) == {
        (budget, layers, seed)
        for budget, sizes in SCRIPT["BUDGETS"].items()
        for layers in sizes
        for seed in SCRIPT["SEEDS"]
    }


def test_the_best_size_grows_with_the_budget_in_every_seed() -> None:
    for seed in SCRIPT["SEEDS"]:
        best = [
            min(sizes, key=lambda layers: TABLE[budget, layers, seed])
            for budget, sizes in SCRIPT["BUDGETS"].items()
        ]
        assert best == sorted(best) and best[0] < best[-1]


def test_a_run_that_hardly_trains_is_far_above_the_exact_loss() -> None:
    above = SCRIPT["excess"](1e9, 1, 0, count=8)
    assert SCRIPT["steps"](1e9, 1) == 2 and 3 < above < 6
