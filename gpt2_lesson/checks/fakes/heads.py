"""Drives for heads: their numbers as a text, and inputs to be refused."""

from torch import Tensor

from gpt2_lesson.checks.probing import Function


def or_error(function: Function, *args: object) -> str:
    """Return "an error" if the function raises one, else a text of what it returned."""
    try:
        output = function(*args)
    except NotImplementedError:
        raise
    except Exception:
        return "an error"
    return (
        f"no error, but a result {tuple(output.shape)}"
        if isinstance(output, Tensor)
        else f"no error, but {output:g}"
        if isinstance(output, int | float)
        else f"no error, but {output!r}"[:80]
    )


def head_by_head(function: Function, x: Tensor, num_heads: int) -> str:
    """Return the heads of one text: "head 0: 0 1 2, 6 7 8; head 1: ..." (by tokens).

    Returns "?" for a result of another shape than (1, H, T, D).
    """
    output = function(x, num_heads)
    _, t, c = x.shape
    if not isinstance(output, Tensor) or output.shape != (
        1,
        num_heads,
        t,
        c // num_heads,
    ):
        return "?"
    return "; ".join(
        f"head {h}: "
        + ", ".join(" ".join(f"{number:g}" for number in token) for token in head)
        for h, head in enumerate(output[0].tolist())
    )
