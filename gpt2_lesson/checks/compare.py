"""Plain data: equal or not, how far apart, and as a short text."""

import re
from collections.abc import Iterator

import torch
from torch import Tensor


def equal(a: object, b: object, atol: float, rtol: float) -> bool:
    """Return True for plain data equal within the tolerances; NaN equals NaN."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return (
            a.shape == b.shape
            and a.is_floating_point() == b.is_floating_point()
            and torch.allclose(
                a.double(), b.double(), atol=atol, rtol=rtol, equal_nan=True
            )
        )
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return False
    if isinstance(a, dict) and isinstance(b, dict):
        return equal(list(a), list(b), 0, 0) and all(
            equal(x, y, atol, rtol) for x, y in zip(a.values(), b.values(), strict=True)
        )
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(
            equal(x, y, atol, rtol) for x, y in zip(a, b, strict=True)
        )
    if isinstance(a, float) or isinstance(b, float):
        if not (isinstance(a, int | float) and isinstance(b, int | float)):
            return False
        if abs(a) >= 2**1000 or abs(b) >= 2**1000:  # inf, or a large int
            return a == b
        return (a != a and b != b) or abs(a - b) <= atol + rtol * abs(b)
    return type(a) is type(b) and a == b


def shown(value: object, most: int = 110) -> str:
    """Return plain data as a text of at most so many letters, numbers of 6 digits."""
    if isinstance(value, Tensor):
        value = (value if value.numel() < 1000 else value.flatten()[:200]).tolist()
    if isinstance(value, list | tuple):
        value = value[:200]
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    text = re.sub(r" at 0x[0-9a-f]+|(?<=,)\n\s*", "", text)
    text = re.sub(r"\d+\.\d{7,}(e[-+]\d+)?", lambda m: f"{float(m[0]):.6g}", text)
    return text if len(text) <= most else text[: most - 3] + "..."


def gap(a: object, b: object) -> float:
    """Return the largest finite difference of two pieces of plain data; NaN if none.

    Ids, counts and masks are not measured: they are right or wrong.
    """
    if isinstance(a, int) and isinstance(b, int):
        return float("nan")
    pairs = [
        (x, y)
        for x, y in zip(tensors(a), tensors(b), strict=False)
        if x.shape == y.shape and x.numel() and y.is_floating_point()
    ]
    found = [
        d[d.isfinite()].max().item()
        for x, y in pairs
        if (d := (x.double() - y.double()).abs()).isfinite().any()
    ]
    return max(found, default=float("nan"))


def tensors(value: object) -> Iterator[Tensor]:
    """Yield the tensors, and the numbers as tensors, inside plain data."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors(part)
    elif isinstance(value, list | tuple):
        for part in value[:1000]:
            yield from tensors(part)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        try:
            yield torch.tensor(float(value), dtype=torch.float64)
        except OverflowError:
            return
