"""Yours against a reference: where do two computations first diverge?"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from gpt2_lesson import plots, validation
from gpt2_lesson.widgets.capture import Record, plural
from gpt2_lesson.widgets.figure import Figure
from gpt2_lesson.widgets.packing import pack

MOST_CELLS = 45_000  # kept of both sides, in all stages together
MOST_WIDE = 64  # rows or columns of one map


@dataclass(frozen=True)
class Difference:
    """The first position at which two computations diverge.

    `place` names the axes and their indices; `mine` and `expected` are the numbers
    there. For a stage that is missing or has another shape `reason` says so, and the
    numbers are None.
    """

    stage: str
    reason: str = ""
    place: dict[str, int] = field(default_factory=dict)
    mine: float | None = None
    expected: float | None = None

    def __str__(self) -> str:
        if self.mine is None or self.expected is None:
            return f"first difference: {self.stage}: {self.reason}"
        place = "".join(f", {axis} {index}" for axis, index in self.place.items())
        mine, expected = _two_numbers(self.mine, self.expected)
        return (
            f"first difference: {self.stage}{place}: yours {mine}, expected {expected}"
        )


class Comparison(Figure):
    """The figure of `compare`; its `first_difference` is None where there is none."""

    first_difference: Difference | None = None


@dataclass
class _Stage:
    """One stage's two arrays, and what is to be said about them."""

    name: str
    mine: np.ndarray | None
    expected: np.ndarray
    reason: str = ""
    largest: float = 0.0
    first: int | None = None  # the first place that differs, counted in flat order
    worst: int = 0

    @property
    def differs(self) -> bool:
        return bool(self.reason) or self.first is not None

    @property
    def focus(self) -> tuple[int, ...]:
        """Return the first place that differs, else that of the largest difference."""
        return _index(
            self.worst if self.first is None else self.first, self.expected.shape
        )


def compare(
    mine: Mapping[str, Any] | Record,
    reference: Mapping[str, Any] | Record,
    tokens: Sequence[str] | None = None,
    atol: float = 1e-5,
    alt: str | None = None,
) -> Comparison:
    """Return a figure of two computations, stage by stage, and where they diverge.

    `print(figure)` gives the headline, `figure.first_difference` the place.

    Parameters
    ----------
    mine, reference
        Each maps the name of each stage, in the order of computation, to a tensor; or
        both are records.
    tokens
        The names of rows and columns of maps (T, T); None means a record's, or numbers.
    atol
        Numbers differ if they are more than this apart, or if only one is NaN or
        infinite.
    alt
        The text alternative; None means the headline.

    Raises
    ------
    TypeError
        For one record and one mapping, and for values that are not real numbers.
    ValueError
        For an empty reference, and for records of different texts or heads.
    """
    ours, theirs, tokens = _sides(mine, reference, tokens)
    if tokens is not None:
        tokens = validation.names("tokens", tokens)
    atol = validation.number("atol", atol, 0)
    stages = [
        _stage(name, ours.get(name), expected, atol)
        for name, expected in theirs.items()
    ]
    at = next((i for i, stage in enumerate(stages) if stage.differs), None)
    difference = None if at is None else _difference(stages[at])
    headline = (
        str(difference)
        if difference
        else (
            f"no difference above {_digits(atol, 4)} in {plural(len(stages), 'stage')}"
        )
    )
    extra = [name for name in ours if name not in theirs]
    state = {
        "headline": headline,
        "atol": atol,
        "start": at or 0,
        "tokens": [str(token) for token in tokens or []],
        "extra": extra,
        "stages": _packed(stages, at or 0, atol),
    }
    alt = headline if alt is None else validation.text("alt", alt)
    picture = _picture(stages[at or 0], headline)
    figure = Comparison("compare", state, picture, alt or headline, height=520)
    figure.first_difference = difference
    return figure


def _sides(
    mine: Any, reference: Any, tokens: Sequence[str] | None
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], Sequence[str] | None]:
    """Return both sides as mappings, and the tokens."""
    if isinstance(mine, Record) != isinstance(reference, Record):
        raise TypeError(
            f"mine is a {type(mine).__name__}, reference a "
            f"{type(reference).__name__}: give two of the same kind"
        )
    if isinstance(reference, Record):
        _check_records(mine, reference)
        tokens = reference.tokens if tokens is None else tokens
        mine, reference = stages_of(mine), stages_of(reference)
    if not isinstance(mine, Mapping) or not isinstance(reference, Mapping):
        raise TypeError(
            "expected two mappings from a stage's name to a tensor, or two records"
        )
    if not reference:
        raise ValueError("reference has no stages: nothing to compare with")
    return (
        {name: _array(x, f"mine, {name}") for name, x in mine.items()},
        {name: _array(x, f"reference, {name}") for name, x in reference.items()},
        tokens,
    )


def stages_of(record: Record) -> dict[str, np.ndarray]:
    """Return a record's numbers as named stages, in the order of computation.

    Scores (H, T, T) are -inf where nothing may be seen; norms are (T,).
    """
    stages = {}
    num_heads = len(record.heads)
    some = (
        ""
        if record.heads == list(range(num_heads))
        else (f" (heads {', '.join(map(str, record.heads))} counted from 0)")
    )
    for i, layer in enumerate(record.layers):
        weights = record.weights[i].astype(float)
        with np.errstate(divide="ignore"):
            scores = np.log(weights) + record.totals[i][..., None]
        scores = scores.astype(np.float32)  # (H, T, T)
        stages[f"layer {layer}: norm of the residual stream"] = record.stream[layer]
        stages[f"layer {layer}: scores{some}"] = scores
        stages[f"layer {layer}: weights{some}"] = weights
        stages[f"layer {layer}: norms of the values{some}"] = record.sizes[i]
        stages[f"layer {layer}: norm from attention"] = record.from_attention[layer]
        stages[f"layer {layer}: norm from feed-forward"] = record.from_mlp[layer]
    return stages | {"logits": record.logits}


def _check_records(mine: Record, reference: Record) -> None:
    """Raise ValueError unless both are of the same text and the same heads."""
    if not np.array_equal(mine.input_ids, reference.input_ids):
        raise ValueError(
            "the two records are of different texts: capture both with "
            "the same input_ids"
        )
    if mine.heads != reference.heads:
        raise ValueError(
            f"mine holds the heads {mine.heads}, reference "
            f"{reference.heads}: capture both with the same heads"
        )


def _array(values: Any, name: str) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().cpu()
        values = values.double() if not values.is_complex() else values.numpy()
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "fiub":
            raise TypeError(array.dtype)
        return array.astype(float)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is {values!r:.60}, expected real numbers") from error


def _stage(
    name: str, mine: np.ndarray | None, expected: np.ndarray, atol: float
) -> _Stage:
    """Return the stage with what differs in it."""
    stage = _Stage(name, mine, expected)
    if mine is None:
        stage.reason = "yours lacks this stage"
    elif mine.shape != expected.shape:
        stage.reason = f"yours has the shape {mine.shape}, expected {expected.shape}"
    elif expected.size:
        off = np.abs(_apart(mine, expected))
        off = np.where(np.isnan(off), np.inf, off)  # only one is a number
        stage.largest = float(off.max())
        stage.worst = int(off.argmax())
        if stage.largest > atol:
            stage.first = int((off > atol).argmax())
    return stage


def _apart(mine: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return mine - expected; 0 where both are the same, or no number."""
    same = (mine == expected) | (np.isnan(mine) & np.isnan(expected))
    with np.errstate(invalid="ignore", over="ignore"):
        return np.where(same, 0.0, mine - expected)


def _short(values: np.ndarray) -> np.ndarray:
    """Return float32 numbers; what is too large for them is infinite."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _short_apart(mine: np.ndarray, expected: np.ndarray, atol: float) -> np.ndarray:
    """Return mine - expected as float32, on the right side of the tolerance."""
    off = _apart(mine, expected)
    short = _short(off)
    above, below = np.abs(off) > atol, np.abs(off) <= atol  # neither: NaN
    size = np.abs(short.astype(float))
    more = np.nextafter(short, np.copysign(np.float32(np.inf), short))
    less = np.nextafter(short, np.float32(0))
    short = np.where(above & (size <= atol), more, short)
    return np.where(below & (size > atol), less, short)


def _index(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(flat, shape))


def _axes(shape: tuple[int, ...]) -> list[str]:
    """Return a name for each axis; the last two are rows and columns."""
    if len(shape) < 2:
        return ["place"][: len(shape)]
    square = shape[-1] == shape[-2]
    leading = {
        0: [],
        1: ["head" if square else "batch"],
        2: ["batch", "head"],
        3: ["layer", "batch", "head"],
    }.get(len(shape) - 2)
    leading = leading or [f"axis {i}" for i in range(len(shape) - 2)]
    return [*leading, "row", "column"]


def _difference(stage: _Stage) -> Difference:
    if stage.reason or stage.mine is None:
        return Difference(stage.name, stage.reason)
    place = dict(zip(_axes(stage.expected.shape), stage.focus, strict=True))
    return Difference(
        stage.name,
        "",
        place,
        float(stage.mine[stage.focus]),
        float(stage.expected[stage.focus]),
    )


def _two_numbers(mine: float, expected: float) -> tuple[str, str]:
    """Return both with as many digits as tell them apart, four at least."""
    for digits in range(4, 18):
        texts = [_digits(x, digits) for x in (mine, expected)]
        if texts[0] != texts[1]:
            break
    return texts[0], texts[1]


def _digits(value: float, digits: int) -> str:
    if np.isnan(value):
        return "NaN (not a number)"
    text = f"{value:.{digits}g}".replace("inf", "infinity")
    return re.sub(r"e([+-])0", r"e\1", text).replace("e+", "e")


def _packed(stages: list[_Stage], start: int, atol: float) -> list[dict]:
    """Return the stages as JSON; half of the room is for the one shown first."""
    others = max(1, len(stages) - 1)
    return [
        _as_state(
            stage,
            atol,
            MOST_CELLS // 2 if i == start else max(MOST_CELLS // 2 // others, 16),
        )
        for i, stage in enumerate(stages)
    ]


def _as_state(stage: _Stage, atol: float, room: int) -> dict:
    """Return one stage as JSON: its maps, packed and cut to `room` cells.

    The difference is that of the numbers as given, not of the shorter ones shipped.
    """
    shape = stage.expected.shape
    state = {
        "name": stage.name,
        "shape": list(shape),
        "axes": _axes(shape),
        "differs": stage.differs,
        "reason": stage.reason,
        "largest": None,
    }
    if stage.reason or stage.mine is None or not stage.expected.size:
        return state
    sides = [_as_maps(x) for x in (stage.mine, stage.expected)]  # (N, R, C) each
    count, *size = sides[0].shape
    flat = stage.worst if stage.first is None else stage.first
    which, row, column = _index(flat, sides[0].shape)
    rows, columns = _window(size, room)
    top, left = _start(row, rows, size[0]), _start(column, columns, size[1])
    every = count * rows * columns <= room
    kept = slice(None) if every else slice(which, which + 1)
    cut = [x[kept, top : top + rows, left : left + columns] for x in sides]
    return state | {
        "largest": stage.largest if np.isfinite(stage.largest) else "infinite",
        "focus": [which if every else 0, row - top, column - left],
        "maps": [list(_index(i, shape[:-2])) for i in range(count)][kept],
        "count": count,
        "top": top,
        "left": left,
        "rows": rows,
        "columns": columns,
        "mine": pack(_short(cut[0])),
        "expected": pack(_short(cut[1])),
        "apart": pack(_short_apart(cut[0], cut[1], atol)),
    }


def _as_maps(values: np.ndarray) -> np.ndarray:
    """Return values (..., R, C), (C,) or () as (N, R, C)."""
    rows = values.reshape(1, -1) if values.ndim < 2 else values
    return rows.reshape(-1, *rows.shape[-2:])


def _window(shape: Sequence[int], room: int) -> tuple[int, int]:
    """Return how many rows and columns are kept."""
    rows, columns = (min(size, MOST_WIDE) for size in shape)
    while rows * columns > room:
        rows, columns = (rows, columns - 1) if columns >= rows else (rows - 1, columns)
    return rows, columns


def _start(focus: int, kept: int, size: int) -> int:
    """Return where a window of `kept` begins so that it holds `focus`."""
    return int(min(max(focus - kept // 2, 0), size - kept))


def _picture(stage: _Stage, headline: str) -> bytes:
    """Return the two maps at the first difference and their difference, as a PNG."""
    if stage.reason or stage.mine is None or not stage.expected.size:
        empty = not stage.expected.size
        matrix = np.zeros((1, 1)) if empty else _as_maps(stage.expected)[0]
        shown, titles = [_thumb(matrix)], ["expected"]
    else:
        focus = stage.focus[:-2]
        shown = [_thumb(_as_maps(x[focus])[0]) for x in (stage.mine, stage.expected)]
        titles = ["yours", "expected", "difference"]
        shown.append(_apart(*shown))
    return plots.as_png(
        plots.show_matrix,
        shown,
        title=titles,
        values=False,
        xlabel=stage.name,
        alt=headline,
    )


def _thumb(matrix: np.ndarray) -> np.ndarray:
    return matrix[:MOST_WIDE, :MOST_WIDE]
