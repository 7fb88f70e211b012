"""Functions of a notebook, run in several processes."""

import pytest
import torch

from gpt2_lesson.processes import run_ranks
from gpt2_lesson.scaling_out import Process


def double(x):
    return 2 * x


def around(process, double, x):
    """Return the rank, and the sum of all ranks' doubled numbers."""
    import torch

    from gpt2_lesson.scaling_out import sum_over_ranks

    total = sum_over_ranks(torch.tensor([double(x) + process.rank]))
    return {"rank": process.rank, "main": process.is_main, "total": total.item()}


def fails(process):
    raise ValueError(f"rank {process.rank} says no")


def test_each_rank_returns_its_own() -> None:
    assert run_ranks(2, around, double, 5) == [
        {"rank": 0, "main": True, "total": 21},
        {"rank": 1, "main": False, "total": 21},
    ]
    assert around(Process(), double, 5) == {"rank": 0, "main": True, "total": 10}
    assert not torch.distributed.is_initialized()


def test_what_a_rank_says_last_is_told() -> None:
    with pytest.raises(RuntimeError, match=r"ValueError: rank \d says no"):
        run_ranks(2, fails)
