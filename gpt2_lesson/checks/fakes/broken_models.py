"""Models whose loader went wrong somewhere, to be found by comparing stage by stage."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch import Tensor

from gpt2_lesson.gpt2_model import GPT2Model
from gpt2_lesson.real_gpt2 import to_hf_name


@torch.no_grad()
def broken_model(name: str) -> GPT2Model:
    """Return a model of 12 blocks: "right", or "A" to "D", where one thing is wrong.

    All have the same large weights, far from the initial ones, in float64.
    """
    torch.manual_seed(0)
    model = GPT2Model(256, 48, 4, 12, 32, 192, 0.0).double().eval()
    generator = torch.Generator().manual_seed(1)
    for p in model.parameters():
        std = 0.3 if p.dim() == 1 else 1.5 / p.size(1) ** 0.5
        p.add_(std * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    {"A": _one, "B": _two, "C": _three, "D": _four}.get(name, lambda model: None)(model)
    return model


def _one(model: GPT2Model) -> None:
    for block in model.blocks:
        block.get_submodule("mlp").register_forward_hook(_with_exact_gelu)


def _with_exact_gelu(mlp: nn.Module, args: tuple, _: Tensor) -> Tensor:
    up, down = mlp.get_submodule("up_proj"), mlp.get_submodule("down_proj")
    return down(F.gelu(up(args[0])))


def _two(model: GPT2Model) -> None:
    model.get_parameter("blocks.7.attn.qkv_proj.bias").zero_()


def _three(model: GPT2Model) -> None:
    order = sorted(range(len(model.blocks)), key=str)
    model.blocks = nn.ModuleList(model.blocks[i] for i in order)


def _four(model: GPT2Model) -> None:
    model.ln_final.bias.zero_()


def evidence(fault: tuple[str, int, int]) -> dict[str, float]:
    """Return by how much a fault of a loader moves what the model `right` computes.

    `fault` is (name, row, row): in this tensor of the file the two rows are exchanged;
    in a vector, the two numbers. What may move: the loss of a sample of 16 bytes (nats
    per token), the sample's logits, the logits of other texts of 32 bytes (the largest
    change). Raises ValueError for a tensor or a row that is not there.
    """
    with torch.random.fork_rng(devices=[]):
        right, wrong = broken_model("right"), broken_model("right")
    _exchange(wrong, *_checked(fault))
    sample = torch.tensor([[*b"The cat sat here"]])
    others = torch.randint(256, (8, 32), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        (a, b), (c, d) = (
            [model(ids) for model in (right, wrong)] for ids in (sample, others)
        )
    loss, moved = (F.cross_entropy(logits[0, :-1], sample[0, 1:]) for logits in (a, b))
    return {
        "loss of the sample": (loss - moved).abs().item(),
        "logits of the sample": (a - b).abs().max().item(),
        "logits of other texts": (c - d).abs().max().item(),
    }


def _checked(fault: tuple[str, int, int]) -> tuple[str, int, int]:
    """Return a fault if it has its three parts; ValueError if not."""
    if (
        not isinstance(fault, list | tuple)
        or len(fault) != 3
        or any(isinstance(i, bool) or not isinstance(i, int) for i in fault[1:])
    ):
        raise ValueError(
            f"{fault!r} is not a valid error: expected (name, row, row), such as "
            '("h.3.mlp.c_fc.weight", 5, 9)'
        )
    name, i, j = fault
    return name, i, j


@torch.no_grad()
def _exchange(model: GPT2Model, theirs: str, i: int, j: int) -> None:
    """Exchange two rows of one tensor, as it is stored in the file."""
    names = {to_hf_name(name): name for name, _ in model.named_parameters()}
    if theirs not in names:
        raise ValueError(f"no tensor of the file is called {theirs!r}")
    p = model.get_parameter(names[theirs])
    rows = p.T if names[theirs].endswith("proj.weight") else p  # (in, out), a view
    if i == j or not (0 <= i < len(rows) and 0 <= j < len(rows)):
        raise ValueError(
            f"{theirs} has the rows 0 to {len(rows) - 1}; expected two "
            f"different ones, not {i} and {j}"
        )
    rows[[i, j]] = rows[[j, i]]
