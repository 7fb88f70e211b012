"""The attention map: which token attends to which, and how much, in every head."""

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from gpt2_lesson import plots, validation
from gpt2_lesson.widgets.capture import Record, check_finite, plural
from gpt2_lesson.widgets.figure import MOST_BYTES, Figure
from gpt2_lesson.widgets.labels import head_labels
from gpt2_lesson.widgets.packing import pack, pack_triangles

MEASURES = ("weights", "scores", "value-weighted")
ROOM = 840_000  # characters for the weights: the whole figure is then about 1 MB
LEVELS = (255, 180, 128, 90, 64, 45)  # of the square root of a weight
MOST_HIGH = 640  # pixels of the still picture
MOST_CELLS = 3_500_000  # even 8 bits of that many never fit


def attention(
    record: Record,
    layer: int | None = None,
    head: int | None = None,
    measure: str = "weights",
    query: int | None = None,
    predict: bool = False,
    alt: str | None = None,
    *,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    simple: bool = False,
) -> Figure:
    """Return the map of all heads of `record`, opened at one head and one query.

    Parameters
    ----------
    record
        What `capture` returned.
    layer, head
        Where the figure opens, by their numbers in the model; None means the first.
    measure
        "weights", "scores" (q.k / sqrt(D)) or "value-weighted".
    query
        The position of the token that attends; -1 means the last. None means the last,
        too, or with `predict` one whose answer is clear.
    predict
        Whether to hide the map until the reader has guessed what the query attends to.
    alt
        The text alternative; None means a sentence about the query, or the question.
    layers, heads
        What the figure holds; None means all of the record.
    simple
        Whether to leave out the ways to mix, measure and name heads.

    Raises
    ------
    ValueError
        For what the record does not hold, and for more than fits a notebook.
    TypeError
        For a query that is not a whole number.
    """
    validation.instance("record", record, Record)
    record = _part(record, layers, heads)
    state = map_state(record, layer, head, measure, query, predict)
    state["simple"] = bool(simple)
    row, column = record.layers.index(state["layer"]), record.heads.index(state["head"])
    query = state["query"]
    if not alt:
        alt = (
            _riddle(record, row, column, query)
            if predict
            else point(record, state["layer"], state["head"], measure, query)
        )
    picture = (
        _question(record, query, alt)
        if predict
        else _picture(record, row, column, measure, alt)
    )
    return Figure("attention", state, _small(picture), alt, 150 if predict else 800)


# ---------------------------------------------------------------- what is in it


def map_state(
    record: Record,
    layer: int | None,
    head: int | None,
    measure: str,
    query: int | None,
    predict: bool = False,
) -> dict[str, Any]:
    """Return what js/attention.js draws, without a picture. Raises as `attention`."""
    if measure not in MEASURES:
        raise ValueError(f"measure is {measure!r}, expected one of {MEASURES}")
    check_finite("the attention", record.weights, record.totals, record.sizes)
    row = _index(record.layers, layer, "layer")
    column = _index(record.heads, head, "head")
    query = _query(record, row, column, query, predict)
    return {
        "layer": record.layers[row],
        "head": record.heads[column],
        "measure": measure,
        "query": query,
        "predict": predict,
        **_held(record),
    }


def _part(
    record: Record, layers: Sequence[int] | None, heads: Sequence[int] | None
) -> Record:
    """Return the record with only some layers and heads, if they are not too many."""
    rows = [_index(record.layers, i, "layers") for i in _listed(record.layers, layers)]
    columns = [_index(record.heads, i, "heads") for i in _listed(record.heads, heads)]
    check_size(record, len(rows), len(columns))
    at = np.ix_(rows, columns)
    return replace(
        record,
        layers=[record.layers[i] for i in rows],
        heads=[record.heads[i] for i in columns],
        weights=record.weights[at],
        totals=record.totals[at],
        sizes=record.sizes[at],
    )


def check_size(record: Record, layers: int, heads: int) -> None:
    """Raise ValueError when so many heads are too many for a figure."""
    size = record.num_tokens
    cells = layers * heads * size * (size + 1) // 2
    if cells > MOST_CELLS:
        raise ValueError(
            f"{plural(layers, 'layer')} x {plural(heads, 'head')} on "
            f"{plural(size, 'token')} would take about {cells * 0.5e-6:.1f} MB, the "
            f"most for a notebook is {MOST_BYTES / 1e6:.1f}: choose some, as in "
            f"layers=[{record.layers[0]}], heads=[{record.heads[0]}], or take fewer "
            "tokens"
        )


def _listed(held: list[int], chosen: Sequence[int] | None) -> list[int]:
    if chosen is None:
        return held
    if not (chosen := validation.names("layers or heads", chosen)):
        raise ValueError(f"no layer or head is chosen, expected some of {held}")
    return chosen


def _index(held: list[int], wanted: int | None, what: str) -> int:
    """Return where the layer or head `wanted` stands in the record."""
    if wanted is None:
        return 0
    wanted = validation.whole_number(what, wanted)
    if wanted not in held:
        raise ValueError(f"{what}: there is no {wanted}, the record holds {held}")
    return held.index(wanted)


def _query(
    record: Record, row: int, column: int, query: int | None, predict: bool
) -> int:
    """Return the place of the query: the last, or one with a clear answer to guess."""
    size = record.num_tokens
    if query is None and predict and size > 3:
        others = np.tril(record.weights[row, column], -1)
        return 3 + int(others[3:].max(-1).argmax())
    query = size - 1 if query is None else validation.whole_number("query", query)
    if not -size <= query < size:
        raise ValueError(f"query is {query}, expected a position from 0 to {size - 1}")
    return query % size


def _held(record: Record) -> dict[str, Any]:
    """Return what the page knows of the record, as JSON."""
    labels = [
        {
            "name": label.name,
            "meaning": label.meaning,
            "threshold": round(label.threshold, 4),
            "scores": _list(label.scores),
        }
        for label in head_labels(record.weights, record.input_ids)
    ]
    return {
        "tokens": record.tokens,
        "layers": record.layers,
        "heads": record.heads,
        "labels": labels,
        **_packed(record),
    }


def _packed(record: Record) -> dict[str, Any]:
    """Return weights, totals and value sizes as text: exact where there is room."""
    size = record.num_tokens
    packed = _fitting(record.weights.reshape(-1, size, size))
    exact = packed["code"] == "u16"
    return {
        "weights": packed,
        "totals": _levels(record.totals, np.uint16),
        "sizes": _levels(record.sizes, np.uint16 if exact else np.uint8),
    }


def _fitting(weights: np.ndarray) -> dict[str, Any]:
    """Return packed weights (N, T, T), as fine as there is room for."""
    if weights.size < 4 * ROOM:
        packed = pack_triangles(weights, exact=True)
        if len(packed["data"]) <= ROOM:
            return packed
    for levels in LEVELS:
        packed = pack_triangles(weights, exact=False, levels=levels)
        if len(packed["data"]) <= ROOM:
            break
    return packed


def _levels(values: np.ndarray, code: type) -> dict[str, Any]:
    """Return numbers as low + step x code, packed: 65,536 or 256 levels."""
    low, high = float(values.min()), float(values.max())
    step = (high - low) / np.iinfo(code).max or 1.0
    data = pack(np.rint((values - low) / step).astype(code))
    return {"low": low, "step": step, "bits": 8 * np.dtype(code).itemsize, "data": data}


def _list(scores: np.ndarray | None) -> list[float] | None:
    return None if scores is None else scores.ravel().round(4).tolist()


# ---------------------------------------------------------------- the still picture


def _riddle(record: Record, row: int, column: int, query: int) -> str:
    asker = f"{_quoted(record.tokens[query])} (token {query})"
    return (
        f"Guess the token that {asker} attends to most in layer "
        f"{record.layers[row]} head {record.heads[column]}."
    )


def point(record: Record, layer: int, head: int, measure: str, query: int) -> str:
    """Return in a sentence what one query sees of one head, by a measure."""
    row, column = record.layers.index(layer), record.heads.index(head)
    values = _measured(record, row, column, measure)[query, : query + 1]
    key = int(values.argmax())
    asker = f"{_quoted(record.tokens[query])} (token {query})"
    target = (
        "itself" if key == query else (f"{_quoted(record.tokens[key])} (token {key})")
    )
    where = f"Attention map, layer {layer} head {head}: {asker}"
    if measure == "scores":
        return f"{where} scores {target} highest, {_digits(values[key])}."
    if measure == "weights":
        return f"{where} attends most to {target}, {_digits(values[key])}."
    if values[key] == 0:
        return f"{where} gets nothing from any token."
    return (
        f"{where} gets most from {target}, {_digits(values[key])} of all by weight "
        "times size of the value."
    )


def _measured(record: Record, row: int, column: int, measure: str) -> np.ndarray:
    """Return one head's map (T, T) by a measure; scores of the future are -inf."""
    weights = record.weights[row, column]
    if measure == "scores":
        with np.errstate(divide="ignore"):
            return np.log(weights) + record.totals[row, column, :, None]
    if measure == "weights":
        return weights
    brought = weights * record.sizes[row, column]
    sums = brought.sum(-1, keepdims=True)
    return np.divide(brought, sums, out=np.zeros_like(brought), where=sums > 0)


def _digits(value: float) -> str:
    """Return a number with two decimals, and one below 0.01 in three digits."""
    return f"{value:.2f}" if value == 0 or abs(value) >= 0.01 else f"{value:.3g}"


def _quoted(token: str) -> str:
    """Return a token in quotes, and a blank one by its name."""
    name = plots.token_name(token.strip() or token)
    return f'"{name}"' if token.strip() else name


def _question(record: Record, query: int, alt: str) -> bytes:
    """Return the text with the query marked, and nothing of what it attends to."""
    place = np.arange(record.num_tokens)
    marks = np.where(place > query, np.nan, place == query)
    return plots.as_png(
        plots.show_text,
        record.tokens,
        marks,
        alt=alt,
        low_label="may be attended to",
        high_label="the query",
    )


def _picture(record: Record, row: int, column: int, measure: str, alt: str) -> bytes:
    title = f"layer {record.layers[row]}, head {record.heads[column]}: {measure}"
    values = _measured(record, row, column, measure)
    if measure == "scores":
        return plots.as_png(
            plots.show_matrix,
            values,
            rows=record.tokens,
            columns=record.tokens,
            title=title,
            xlabel="key: to this token",
            alt=alt,
            ylabel="query: this token attends",
        )
    return plots.as_png(
        plots.show_attention, values, record.tokens, title=title, alt=alt
    )


def _small(png: bytes) -> bytes:
    """Return a picture in 64 colours and at most 640 pixels high."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.thumbnail((1000, MOST_HIGH), Image.Resampling.BOX)
    out = io.BytesIO()
    picture.quantize(64).save(out, "PNG", optimize=True)
    return out.getvalue()
