"""A training run on the processes that torchrun has started, with lesson 14.

Without torchrun there is one process, which does what it did before.
"""

import contextlib
import itertools
import os
import random
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn as nn
from torch import Tensor

from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.scaling_out import (
    Process,
    distributed_setup,
    distributed_step,
    number_of_ranks,
    parallelize,
    sum_over_ranks,
)


@contextlib.contextmanager
def joined(device: str) -> Iterator[Process]:
    """Yield this process, joined to the others that torchrun has started.

    Rank 0 alone speaks; an error is told by the process that has it.
    """
    if "RANK" not in os.environ:
        yield Process()
        return
    name = None if device == "auto" else device
    process = setup_again(name) if restarted() else distributed_setup(name)
    if process.is_main:
        yield process
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            yield process


def restarted() -> bool:
    """Return whether torchrun started us again, because a process had ended."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def setup_again(device: str | None) -> Process:
    """Do what `distributed_setup` does, after a restart.

    torchrun's store still holds the addresses of the processes that have ended, and
    PyTorch may read those (pytorch/pytorch issues 135712 and 167288). So on one machine
    each start has keys of its own. On several machines the starts are not counted
    alike, and TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 gives each start a new store.
    """
    shared = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if not shared or os.environ["LOCAL_WORLD_SIZE"] != os.environ["WORLD_SIZE"]:
        return distributed_setup(device)
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = dist.PrefixStore(
        f"start {os.environ['TORCHELASTIC_RESTART_COUNT']}",
        dist.TCPStore(address, port, is_master=False),
    )
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if device == "cpu" or not torch.cuda.is_available():
        dist.init_process_group("gloo", store=store, rank=rank, world_size=count)
        return Process(rank, count)
    mine = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(mine)
    backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, store=store, rank=rank, world_size=count)
    return Process(rank, count, mine)


def main_first(process: Process, prepare: Callable[[], object]) -> bool:
    """Return whether `prepare` returned something true on the main process.

    The others wait. If it raises there, they end with status 2.
    """
    answer = torch.tensor(-1)
    try:
        answer.fill_(bool(prepare()) if process.is_main else 0)
    finally:
        sum_over_ranks(answer)
    if answer < 0:
        raise SystemExit(2)
    return bool(answer)


def check_batch(batch_size: int) -> None:
    """Raise ValueError unless a batch has a window for each process."""
    if batch_size < number_of_ranks():
        raise ValueError(
            f"--batch-size is {batch_size}, expected at least {number_of_ranks()}: one "
            "window for each process"
        )


def wrap(model: GPT2Model, plan: dict) -> nn.Module:
    """Return what is trained: the model itself, or shared, or compiled."""
    trained = parallelize(model, plan.get("parallel", "ddp"))
    return cast(nn.Module, torch.compile(trained)) if plan.get("compile") else trained


def step_function(
    process: Process, model: nn.Module, seed: int, done: int
) -> Callable | None:
    """Return the function that takes a step, or None for lesson 08's.

    Lesson 14's step never waits for a GPU. With several processes each one's dropout
    follows from the seed, its rank and the step, so it needs no place in a checkpoint.
    """
    if not (dist.is_available() and dist.is_initialized()):
        cuda = next(model.parameters()).is_cuda
        return distributed_step if cuda else None
    steps = itertools.count(done)

    def take_step(*arguments: Any) -> Tensor:
        words = f"{seed} {process.rank} {next(steps)}"
        torch.manual_seed(random.Random(words).getrandbits(63))
        return distributed_step(*arguments)

    return take_step
