"""What each rank does in the tests of lesson 14: `torchrun ranks.py FILE`.

It trains one model by hand-averaged gradients, DDP and FSDP2, in float32 and float64.
Rank 0 writes to FILE what each run leaves: the first gradient, losses, parameters.
"""

import sys

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn

from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.scaling_out import (
    Process,
    average_gradients,
    distributed_finish,
    distributed_setup,
    distributed_step,
    parallelize,
    rank_rows,
    sum_over_ranks,
    summed_loss,
    whole,
    whole_state,
)
from gpt2_lesson.training import make_optimizer

STRATEGIES = ("hand", "ddp", "fsdp")
DTYPES = {"float32": torch.float32, "float64": torch.float64}
STEPS, MAX_NORM = 3, 0.5


def new_model(dtype: torch.dtype) -> GPT2Model:
    torch.manual_seed(0)
    return GPT2Model(50, 32, 2, 2, 16, 64, dropout=0.0).to(dtype)


def global_batches(step: int) -> list[Tensor]:
    """Return a step's two batches of 8 rows, of very different lengths."""
    generator = torch.Generator().manual_seed(step)
    batches = [torch.randint(50, (8, 17), generator=generator) for _ in range(2)]
    for batch in batches:
        for row, length in enumerate((17, 3, 16, 2, 17, 5, 9, 1)):
            batch[row, length:] = -100
    return batches


def step_by_hand(
    model: nn.Module, optimizer: torch.optim.Optimizer, batches: list[Tensor]
) -> Tensor:
    """Take a step as `distributed_step` does, with `average_gradients`."""
    optimizer.zero_grad()
    count = sum_over_ranks(sum((ids[:, 1:] != -100).sum() for ids in batches))
    losses = [summed_loss(model(ids[:, :-1].clamp(min=0)), ids) for ids in batches]
    loss = sum(losses) * dist.get_world_size() / count
    loss.backward()
    average_gradients(model)
    nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
    optimizer.step()
    return sum_over_ranks(loss.detach() / dist.get_world_size())


def run(strategy: str, dtype: torch.dtype, process: Process) -> dict[str, Tensor]:
    """Return the first gradient (clipped), the losses and the parameters, whole."""
    model = new_model(dtype)
    trained = model if strategy == "hand" else parallelize(model, strategy)
    optimizer, gradients = make_optimizer(model, 0.01), {}

    def keep(*_: object) -> None:
        if not gradients:
            for name, p in model.named_parameters():
                gradients[f"gradient.{name}"] = whole(p.grad).clone()

    optimizer.register_step_pre_hook(keep)
    losses = []
    for step in range(STEPS):
        batches = [
            rank_rows(batch, process.rank, process.world_size)
            for batch in global_batches(step)
        ]
        if strategy == "hand":
            losses.append(step_by_hand(model, optimizer, batches))
        else:
            losses.append(distributed_step(trained, optimizer, batches, MAX_NORM))
    state = whole_state(trained)
    assert bool(state) == process.is_main
    here = sum(getattr(p, "_local_tensor", p).numel() for p in model.parameters())
    everyone = {name: whole(p.detach()) for name, p in model.named_parameters()}
    for values in everyone.values():  # every rank has the same bits
        least, most = values.clone(), values.clone()
        dist.all_reduce(least, dist.ReduceOp.MIN)
        dist.all_reduce(most, dist.ReduceOp.MAX)
        assert torch.equal(least, most)
    return (
        gradients
        | {f"parameter.{name}": values for name, values in state.items()}
        | {"losses": torch.stack(losses).double(), "held": torch.tensor(here)}
    )


if __name__ == "__main__":
    process = distributed_setup("cpu")
    results = {
        f"{strategy} {name} {key}": values.contiguous()
        for strategy in STRATEGIES
        for name, dtype in DTYPES.items()
        for key, values in run(strategy, dtype, process).items()
    }
    if process.is_main:
        save_file(results, sys.argv[1])
    distributed_finish()
