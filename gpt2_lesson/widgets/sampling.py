"""The sampling bench: temperature, top-k and top-p on a model's own logits."""

import json
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gpt2_lesson import plots, validation
from gpt2_lesson.generation import next_probabilities
from gpt2_lesson.widgets.capture import Record
from gpt2_lesson.widgets.figure import Figure
from gpt2_lesson.widgets.packing import pack

SHOWN = 8  # tokens in the still picture
ROWS = 13  # of the live one: twelve tokens and all others
CONTEXT = 60  # tokens of the text before, at most


def sampling(
    record: Record | Tensor,
    position: int = -1,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    alt: str | None = None,
    *,
    names: Sequence[str] | None = None,
) -> Figure:
    """Show the probabilities of the token after `position`, under three settings.

    The probabilities are those of lesson 06's `next_probabilities`, to 1e-6.

    Parameters
    ----------
    record
        What `capture` returned, or logits (V,).
    position
        0 to T - 1, or -1 for the last; logits have none.
    temperature, top_k, top_p
        As in `next_probabilities`, whose errors this function raises, too.
    alt
        The text alternative; None means a sentence about the most probable tokens.
    names
        The names of all V tokens; None means the record's, or numbers.

    Raises
    ------
    IndexError
        For a position that is not there.
    ValueError
        For names or logits that do not fit.
    """
    context, came_next = [], None
    if isinstance(record, Record):
        at = place(position, record.num_tokens)
        logits, names = torch.tensor(record.logits[at]), names or record.vocabulary
        context = record.tokens[max(0, at + 1 - CONTEXT) : at + 1]
        came_next = [int(i) for i in record.input_ids[at + 1 : at + 2]]
    else:
        logits = _checked(record)
    names = named(names, len(logits))
    before = next_probabilities(logits)
    after = next_probabilities(logits, temperature, top_k, top_p)
    state = {
        "logits": pack(logits.numpy().astype(np.float32)),
        "names": pack_names(names),
        "context": context,
        "position": at if context else None,
        "came_next": came_next[0] if came_next else None,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
    }
    settings = _settings(temperature, top_k, top_p)
    alt = alt or _point(before, after, names, settings)
    picture = _picture(before, after, names, settings, alt)
    rows = 22 * min(len(names), ROWS)
    return Figure("sampling", state, picture, alt, 240 + rows)


def place(position: int, count: int) -> int:
    """Return a position from 0 on; -1 is the last. Raises IndexError, TypeError."""
    position = validation.whole_number("position", position)
    if not -count <= position < count:
        raise IndexError(
            f"position is {position}, expected 0 to {count - 1}, or -1 for the last"
        )
    return position % count


def named(names: Sequence[str] | None, count: int) -> list[str]:
    """Return `count` names, numbers where there are none. Raises ValueError."""
    if names is None:
        return [str(i) for i in range(count)]
    if not isinstance(names, str):
        names = validation.names("names", names)
    if isinstance(names, str) or len(names) != count:
        kind = "a text" if isinstance(names, str) else "a list"
        raise ValueError(
            f"names is {kind} of {len(names)}, expected a list of {count}: one name "
            "for each token"
        )
    return [str(name) for name in names]


def pack_names(names: Sequence[str]) -> str:
    """Return the names zipped, as 50,257 of them must be to fit. core.js unpacks it."""
    return pack(np.frombuffer(json.dumps(list(names)).encode(), np.uint8))


def _checked(logits: Tensor) -> Tensor:
    if not isinstance(logits, Tensor):
        raise TypeError(
            f"record is a {type(logits).__name__}, expected what widgets.capture "
            "returns, or a tensor of logits (V,)"
        )
    if logits.dim() != 1 or len(logits) == 0:
        raise ValueError(
            f"logits has the shape {tuple(logits.shape)}, expected (V,): one number "
            "for each token, such as logits[0, -1]"
        )
    validation.tensor("logits", logits, "V", "floats")
    return logits.detach().float().cpu()


def _settings(temperature: float, top_k: int | None, top_p: float | None) -> str:
    words = [f"temperature {temperature:g}"]
    words += [f"top-k {top_k}"] if top_k is not None else []
    words += [f"top-p {top_p:g}"] if top_p is not None else []
    return ", ".join(words)


def _point(before: Tensor, after: Tensor, names: list[str], settings: str) -> str:
    """Return what the picture says, in a sentence."""
    order = before.argsort(descending=True, stable=True)[:3].tolist()
    probs = ", ".join(f"'{plots.token_name(names[i])}' {before[i]:.2g}" for i in order)
    left = int((after > 0).sum())
    return (
        f"The most probable next tokens are {probs}. With {settings}, {left:,} of "
        f"{len(names):,} stay, and '{plots.token_name(names[order[0]])}' gets "
        f"{after[order[0]]:.2f}."
    )


def _picture(
    before: Tensor, after: Tensor, names: list[str], settings: str, alt: str
) -> bytes:
    order = before.argsort(descending=True, stable=True)[:SHOWN].tolist()
    return plots.as_png(
        plots.show_bars,
        {"the model's probabilities": before[order], settings: after[order]},
        [plots.short_name(names[i], 14) for i in order],
        ylabel="probability",
        alt=alt,
    )
