"""One token on its way through the blocks, read with the logit lens."""

from typing import Any

import numpy as np

from gpt2_lesson import plots, validation
from gpt2_lesson.widgets.capture import Record, check_finite
from gpt2_lesson.widgets.figure import Figure
from gpt2_lesson.widgets.packing import pack, pack_fractions
from gpt2_lesson.widgets.sampling import place

TOP_K = 5  # next tokens shown for each layer
LOOKS = 3  # heads shown for each layer, those with the largest weights


def trace(record: Record, position: int = -1, alt: str | None = None) -> Figure:
    """Show what each layer makes of the token at `position`; any other can be chosen.

    For every layer: the most probable next tokens if the model stopped there (the
    logit lens), the probability of the token that came next, the norms of the residual
    stream and of what attention and feed-forward add to it, and which tokens the heads
    attended to most.
    Raises IndexError or TypeError for a position that is not there, ValueError for a
    record with NaN or infinity.
    """
    validation.instance("record", record, Record)
    at = place(position, record.num_tokens)
    check_finite(
        "the record",
        record.weights,
        record.lens_probs,
        record.lens_next,
        record.stream,
        record.from_attention,
        record.from_mlp,
    )
    ids, names, followed = _names(record)
    keys, weights, heads = _looks(record)
    state = {
        "tokens": record.tokens,
        "position": at,
        "names": names,
        "blocks": len(record.stream),
        "captured": record.layers,
        "top_k": ids.shape[-1],
        "looks": heads.shape[-1],
        "next": names_of_next(record),
        "next_reading": followed,
        "lens": pack(ids.astype(np.uint32)),
        "probs": pack_fractions(record.lens_probs[..., :TOP_K]),
        "next_probs": pack(record.lens_next.astype(np.float32)),
        "norms": pack(_norms(record)),
        "keys": pack(keys.astype(np.uint16)),
        "heads": pack(heads.astype(np.uint16)),
        "weights": pack_fractions(weights),
    }
    alt = alt or _point(record, at)
    rows = len(record.lens_probs)
    return Figure(
        "trace", state, _picture(record, at, alt), alt, height=400 + 36 * rows
    )


def names_of_next(record: Record) -> list[str]:
    """Return the name of the token after each, and at the end of the model's answer."""
    return [*record.tokens[1:], record.name(int(record.lens_ids[-1, -1, 0]))]


def _names(record: Record) -> tuple[np.ndarray, list[str], list[int]]:
    """Return the lens's tokens (L + 1, T, 5) as places in a list, and that list.

    Last the place (T,) of the token after each, -1 where the lens never reads it. Two
    tokens may have one name, so they are told apart by place.
    """
    used, places = np.unique(record.lens_ids[..., :TOP_K], return_inverse=True)
    shape = record.lens_ids[..., :TOP_K].shape
    place_of = {int(i): at for at, i in enumerate(used)}
    after = [*record.input_ids[1:], record.lens_ids[-1, -1, 0]]
    return (
        places.reshape(shape),
        [record.name(int(i)) for i in used],
        [place_of.get(int(i), -1) for i in after],
    )


def _looks(record: Record) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return key, weight and head (layers, T, 3) of the largest weights."""
    largest = record.weights.max(-1).transpose(0, 2, 1)  # (layers, T, H)
    keys = record.weights.argmax(-1).transpose(0, 2, 1)
    order = np.argsort(-largest, axis=-1, kind="stable")[..., :LOOKS]
    heads = np.array(record.heads)[order]
    return (
        np.take_along_axis(keys, order, -1),
        np.take_along_axis(largest, order, -1),
        heads,
    )


def _norms(record: Record) -> np.ndarray:
    """Return norms (3, L, T): residual stream, attention, feed-forward network."""
    norms = np.stack([record.stream, record.from_attention, record.from_mlp])
    digits = 3 - np.floor(np.log10(np.maximum(norms, 1e-30)))
    return (np.round(norms * 10**digits) / 10**digits).astype(np.float32)


def _point(record: Record, at: int) -> str:
    """Return what the picture says, in a sentence."""
    probs = record.lens_next[:, at]
    first = record.name(int(record.lens_ids[0, at, 0]))
    token, first, wanted = map(
        plots.token_name, (record.tokens[at], first, names_of_next(record)[at])
    )
    what = "what came next" if at + 1 < record.num_tokens else "its own answer"
    return (
        f"After '{token}' the logit lens first reads '{first}'; "
        f"the probability of '{wanted}', {what}, goes from {probs[0]:.2g} at the "
        f"embedding to {probs[-1]:.2g} after layer {len(probs) - 2}."
    )


def _picture(record: Record, at: int, alt: str) -> bytes:
    """Return each layer's probability of its top token and of what came next."""
    wanted = names_of_next(record)[at]
    depths = ["embedding", *(f"after layer {i}" for i in range(len(record.stream)))]
    read = [
        plots.short_name(record.name(int(ids[0])), 14) for ids in record.lens_ids[:, at]
    ]
    layers = [f"{depth} '{name}'" for depth, name in zip(depths, read, strict=True)]
    values: dict[str, Any] = {
        "most probable there, named below": record.lens_probs[:, at, 0],
        f"'{plots.short_name(wanted, 14)}', which came next"
        if at + 1 < record.num_tokens
        else "the answer": record.lens_next[:, at],
    }
    return plots.as_png(
        plots.show_bars,
        values,
        layers,
        ylabel="probability",
        alt=alt,
        title=f"after '{plots.short_name(record.tokens[at], 14)}', layer by layer",
    )
