"""Models whose loader went wrong somewhere, to be found by comparing stage by stage."""

import torch
import torch.nn as nn
import torch.nn.functional as F

from gpt2_lesson.gpt2_model import GPT2Model


@torch.no_grad()
def mystery(name: str) -> GPT2Model:
    """Return a model of 12 blocks: "right", or "A" to "D", where one thing is wrong.

    All have the same hot weights, far from a fresh model's, in float64.
    """
    torch.manual_seed(0)
    model = GPT2Model(256, 48, 4, 12, 32, 192, 0.0).double().eval()
    draws = torch.Generator().manual_seed(1)
    for p in model.parameters():
        spread = 0.3 if p.dim() == 1 else 1.5 / p.size(1) ** 0.5
        p.add_(spread * torch.randn(p.shape, generator=draws, dtype=p.dtype))
    {"A": _one, "B": _two, "C": _three, "D": _four}.get(name, lambda model: None)(model)
    return model


def _one(model: GPT2Model) -> None:
    for block in model.blocks:
        mlp = block.mlp
        mlp.forward = lambda x, mlp=mlp: mlp.down_proj(F.gelu(mlp.up_proj(x)))


def _two(model: GPT2Model) -> None:
    model.blocks[7].attn.qkv_proj.bias.zero_()


def _three(model: GPT2Model) -> None:
    order = sorted(range(len(model.blocks)), key=str)
    model.blocks = nn.ModuleList(model.blocks[i] for i in order)


def _four(model: GPT2Model) -> None:
    model.ln_final.bias.zero_()
