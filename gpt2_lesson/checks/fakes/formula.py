"""Layers that stand in for real ones, and write down the formula that uses them."""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from gpt2_lesson.checks.probing import Function

Known = list[tuple[str, Tensor]]


class Layer:
    """Stand in for a layer: tanh(x @ matrix), (..., C) -> (..., C).

    With `mixes`, each token also gets the mean of the tokens up to itself.
    """

    def __init__(self, name: str, matrix: Tensor, mixes: bool = False) -> None:
        self.name, self.matrix, self.mixes = name, matrix, mixes

    def __call__(self, x: Tensor) -> Tensor:
        x = torch.tanh(x @ self.matrix)
        if self.mixes:
            place = torch.arange(1, x.size(-2) + 1)[:, None]  # (T, 1)
            x = x + x.cumsum(-2) / place
        return x


class Silent:
    """Stand in for a layer that returns 0 everywhere."""

    def __call__(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


def formula(function: Function, x: Tensor, *layers: Layer) -> str:
    """Return what the function makes of x and the layers: "x + attn(ln_attn(x))".

    Whatever the function does in between (torch.add, +=, reshape), each input of a
    layer, and the result, is written as a sum of x and of what layers returned before.
    A part that is no such sum is written "?".
    """
    known = [("x", x.clone())]

    def recorded(layer: Layer) -> Callable[[Tensor], Tensor]:
        def call(value: Tensor) -> Tensor:
            text = f"{layer.name}({_as_sum(value, known)})"
            output = layer(value)
            if text not in dict(known):
                known.append((text, output.clone()))
            return output

        return call

    return _as_sum(function(x, *map(recorded, layers)), known)


def _as_sum(value: object, known: Known) -> str:
    """Return a tensor as a sum of known ones, of their products if need be, or "?"."""
    if not isinstance(value, Tensor) or value.numel() != known[0][1].numel():
        return "?"
    same = [(name, one) for name, one in known if one.numel() == value.numel()]
    products = [
        (f"{a} * {b}", one * two.view_as(one))
        for (a, one), (b, two) in itertools.combinations_with_replacement(same, 2)
    ]
    return _fitted(value, same) or _fitted(value, same + products) or "?"


def _fitted(value: Tensor, parts: Known) -> str:
    """Return `value` as a sum of multiples of `parts`; "" if it is none."""
    columns = torch.stack([part.flatten() for _, part in parts], 1).double()
    wanted = value.detach().flatten().double()
    factors = torch.linalg.lstsq(columns, wanted[:, None], driver="gelsd").solution
    if not (columns @ factors)[:, 0].allclose(wanted, atol=1e-4):
        return ""
    signs = [
        ("- " if factor < 0 else "+ ") + _times(abs(factor), name)
        for factor, (name, _) in zip(factors[:, 0].tolist(), parts, strict=True)
        if abs(factor) > 1e-4
    ]
    return " ".join(signs).removeprefix("+ ") or "0"


def _times(factor: float, name: str) -> str:
    return name if abs(factor - 1) < 1e-3 else f"{factor:.3g} {name}"


def slope(function: Function, x: Tensor, *layers: Layer) -> Tensor | None:
    """Return the gradient at x of half the sum of the result's squares."""
    x.requires_grad_()
    output = function(x.clone(), *layers)  # may be changed
    if isinstance(output, Tensor) and output.requires_grad:
        (output.square().sum() / 2).backward()
    return x.grad
