"""Toy functions of tokens, some of which leak the future; what a mask is made of."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gpt2_lesson.checks.probing import Function


@dataclass(frozen=True, eq=False, repr=False)
class Mixer:
    """A function of tokens x (B, T, C): output i adds up tokens with `table[i]` (T, T).

    For fewer tokens the table is cut. What comes from later tokens reaches only the
    `example` (None: all), and, with `channels` (C,), is summed over the channels and
    multiplied by these factors; `reads` (C,) says which channels it comes from. Each
    token is first freed of its mean if `centred`, each example of the mean of all if
    `mixed`. The result is multiplied by `factors` (C,) and keeps `keep` channels.
    `rough` adds and subtracts a multiple of the sum of all: right but for rounding.
    """

    table: Tensor
    example: int | None = None
    channels: Tensor | None = None
    reads: Tensor | float = 1.0
    centred: bool = False
    mixed: bool = False
    factors: Tensor | float = 1.0
    keep: int | None = None
    rough: float = 0.0

    def __repr__(self) -> str:
        """Return what a report says of it in place of its numbers."""
        return "a toy function (output i reads token j where .table[i, j] is not 0)"

    def __call__(self, x: Tensor) -> Tensor:
        if self.centred:
            x = x - x.mean(-1, keepdim=True)
        if self.mixed:
            x = x - x.mean(0, keepdim=True)
        table = self.table[: x.size(1), : x.size(1)]  # (T, T)
        past, later = table.tril() @ x, table.triu(1) @ (self.reads * x)  # (B, T, C)
        if self.channels is not None:
            later = later.sum(-1, keepdim=True) * self.channels
        if self.example is not None:
            chosen = torch.arange(len(x)) == self.example
            later = later * chosen[:, None, None]
        if self.rough:
            everything = self.rough * x.sum(1, keepdim=True)
            past = (past + everything) - everything
        return (self.factors * (past + later))[..., : self.keep]


def verdict(function: Function, *args: object) -> object:
    """Return what the function returns; a tensor of one bool becomes a bool."""
    output = function(*args)
    if getattr(output, "shape", None) == () and "bool" in str(output.dtype):
        return bool(output)
    return output


def refusal(function: Function, *args: object) -> str:
    """Return whether the function refuses its input, and with a ValueError."""
    try:
        function(*args)
    except ValueError:
        return "ValueError"
    except Exception:
        return "another error"
    return "no error"


def kind(function: Function, *args: object) -> str:
    """Return what the function's tensor holds: True/False, whole numbers, decimals."""
    output = function(*args)
    if not isinstance(output, Tensor):
        return type(output).__name__
    if output.dtype == torch.bool:
        return "True and False"
    return "decimals" if output.is_floating_point() else "whole numbers"
