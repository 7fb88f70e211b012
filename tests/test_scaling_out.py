"""Steps of several processes against the same step of one, written independently."""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import ranks
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.testing import assert_close

from gpt2_lesson.scaling_out import (
    distributed_step,
    parallelize,
    rank_rows,
    summed_loss,
    whole_state,
)
from gpt2_lesson.training import make_optimizer, next_token_loss, train_step

TOLERANCE = {"float32": 1e-6, "float64": 1e-12}


@cache
def one_process(name: str) -> dict[str, Tensor]:
    """Return what a plain loop over the global batches leaves, without the lesson."""
    model = ranks.new_model(ranks.DTYPES[name])
    optimizer, losses, gradients = make_optimizer(model, 0.01), [], {}
    for step in range(ranks.STEPS):
        ids = torch.cat(ranks.global_batches(step))
        logits = model(ids[:, :-1].clamp(min=0)).flatten(0, 1)
        loss = F.cross_entropy(logits, ids[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), ranks.MAX_NORM)
        if not step:
            for parameter, p in model.named_parameters():
                gradients[f"gradient.{parameter}"] = p.grad.clone()
        optimizer.step()
        losses.append(loss.detach().double())
    state = {f"parameter.{name}": p for name, p in model.state_dict().items()}
    return gradients | state | {"losses": torch.stack(losses)}


@pytest.fixture(scope="module")
def left(request, tmp_path_factory) -> dict[str, Tensor]:
    """Give what `request.param` processes leave behind."""
    path = tmp_path_factory.mktemp("ranks") / "left.safetensors"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={request.param}", ranks.__file__, str(path)]
    package = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return load_file(path) | {"world_size": torch.tensor(request.param)}


WORLDS = [2, pytest.param(4, marks=pytest.mark.slow)]


@pytest.mark.parametrize("left", WORLDS, indirect=True)
@pytest.mark.parametrize("name", ranks.DTYPES)
@pytest.mark.parametrize("strategy", ranks.STRATEGIES)
def test_several_processes_take_the_step_of_one(
    left: dict[str, Tensor], strategy: str, name: str
) -> None:
    """Though rows have 1 to 17 tokens, and gradients are clipped and accumulated."""
    one = one_process(name)
    several = {key: left[f"{strategy} {name} {key}"] for key in one}
    largest = max(values.abs().max() for key, values in one.items() if "grad" in key)
    for key, values in one.items():
        if key.startswith("gradient"):
            gap = (several[key] - values).abs().max() / largest
            assert gap <= TOLERANCE[name], (key, gap)
    assert_close(several["losses"], one["losses"], rtol=TOLERANCE[name], atol=0)
    if name == "float64":  # in float32 AdamW makes steps of what only is rounding
        for key, values in one.items():
            assert_close(several[key], values, rtol=0, atol=1e-9)


@pytest.mark.parametrize("left", WORLDS, indirect=True)
def test_fsdp_holds_a_part_on_each_rank(left: dict[str, Tensor]) -> None:
    total = sum(p.numel() for p in ranks.new_model(torch.float32).parameters())
    assert left["ddp float32 held"] == total
    assert left["fsdp float32 held"] <= 1.05 * total / left["world_size"]


def test_rows_go_to_one_rank_each() -> None:
    batch = torch.arange(21).view(7, 3)
    for world_size in (1, 2, 3, 7):
        rows = [rank_rows(batch, rank, world_size) for rank in range(world_size)]
        assert_close(torch.cat(rows).msort(), batch)
    with pytest.raises(ValueError, match="world_size is 8, expected 1 to 7"):
        rank_rows(batch, 0, 8)  # a rank without rows would let the others wait


def test_alone_it_is_the_step_of_lesson_08() -> None:
    batches = [torch.randint(50, (4, 9)) for _ in range(2)]
    model, other = (ranks.new_model(torch.float32) for _ in range(2))
    assert parallelize(model, "fsdp") is model
    loss = distributed_step(model, make_optimizer(model, 0.01), batches, 0.5)
    expected = train_step(other, make_optimizer(other, 0.01), batches, 0.5)
    assert_close(loss.item(), expected, rtol=1e-6, atol=0)
    state = whole_state(model)
    for name, values in other.state_dict().items():
        if name.endswith("weight"):  # biases of keys: AdamW's steps of rounding
            assert_close(state[name], values, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_summed_loss_is_the_mean_times_the_targets(dtype: torch.dtype) -> None:
    ids = torch.randint(50, (3, 6))
    ids[1, 4:] = -100
    logits = torch.randn(3, 5, 50).to(dtype)
    loss = summed_loss(logits, ids)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert_close(loss.double(), 13 * next_token_loss(logits, ids).double())
    assert summed_loss(logits, torch.full_like(ids, -100)) == 0  # a rank without any
