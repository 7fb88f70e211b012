"""The arithmetic of attention: drag the query and watch the average follow."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from gpt2_lesson import plots, validation
from gpt2_lesson.attention import attention
from gpt2_lesson.widgets.figure import Figure

MOST_TOKENS = 8
# Lesson 01's numbers: scores / sqrt(2) are ln 1, ln 2 and ln 3, the average is [4, 5].
TOKENS = ("The", "cat", "sat")
QUERIES = ((math.sqrt(2), 0.0),) * 3
KEYS = ((math.log(1), 1.0), (math.log(2), -1.0), (math.log(3), 0.5))
VALUES = ((6.0, 0.0), (0.0, 6.0), (6.0, 6.0))


def arithmetic(
    q: Any = QUERIES,
    k: Any = KEYS,
    v: Any = VALUES,
    tokens: Sequence[str] = TOKENS,
    alt: str | None = None,
    *,
    mask: bool = True,
) -> Figure:
    """Return a figure in which the reader drags a query, and attention is computed.

    The reader chooses which token asks, divides by the square root of 2 or not, hides
    the future or not. At first the query is the last token's, scaled, without the mask.
    Without arguments it shows lesson 01's numbers.

    Parameters
    ----------
    q, k
        (T, 2), one query and one key for each of at most 8 tokens.
    v
        (T, Dv), Dv up to 4.
    tokens
        The names of the T tokens.
    alt
        The text alternative; None means a sentence with the weights and the average.
    mask
        False leaves out the button that hides the future.

    Raises
    ------
    ValueError
        For other shapes, and for numbers that are not finite.
    """
    tokens = validation.names("tokens", tokens)
    q, k, v = _rows(q, "q"), _rows(k, "k"), _rows(v, "v")
    _check(q, k, v, len(tokens))
    mixed, weights = attention(*(torch.from_numpy(x) for x in (q, k, v)))
    shares = ", ".join(f"{w:.2f}" for w in weights[-1])
    average = ", ".join(f"{x:.2f}" for x in mixed[-1])
    alt = alt or (
        f"One query, {len(tokens)} keys: the weights are {shares}, and the average of "
        f"the values is [{average}]. Drag the query and all numbers follow."
    )
    state = {
        "tokens": [str(token) for token in tokens],
        "q": q.tolist(),
        "k": k.tolist(),
        "v": v.tolist(),
        "mask": bool(mask),
    }
    picture = plots.as_png(
        plots.show_bars,
        weights[-1],
        [plots.short_name(x, 12) for x in tokens],
        xlabel="key",
        ylabel="attention weight",
        title=f"the average of the values is [{average}]",
        alt=alt,
    )
    rows = 52 * len(tokens)
    return Figure("arithmetic", state, picture, alt, height=max(600, 450 + rows))


def _rows(values: Any, name: str) -> np.ndarray:
    rows = validation.array(name, values)
    if rows.ndim != 2 or not np.isfinite(rows).all():
        raise ValueError(
            f"{name} has the shape {rows.shape}, expected finite numbers "
            f"(T, {'Dv' if name == 'v' else 2})"
        )
    return rows


def _check(q: np.ndarray, k: np.ndarray, v: np.ndarray, count: int) -> None:
    if not 1 <= count <= MOST_TOKENS:
        raise ValueError(f"{count} tokens, expected 1 to {MOST_TOKENS}")
    for name, rows in (("q", q), ("k", k)):
        if rows.shape != (count, 2):
            raise ValueError(
                f"{name} has the shape {rows.shape}, expected ({count}, "
                "2): a plane has two channels, and each token a row"
            )
    if v.shape[0] != count or not 1 <= v.shape[1] <= 4:
        raise ValueError(f"v has the shape {v.shape}, expected ({count}, 1 to 4)")
