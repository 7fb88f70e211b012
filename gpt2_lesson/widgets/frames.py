"""The same maps at several settings: masks to choose, a training run to scrub."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gpt2_lesson import plots, validation
from gpt2_lesson.widgets.capture import plural
from gpt2_lesson.widgets.figure import MOST_BYTES, Figure
from gpt2_lesson.widgets.packing import pack, pack_triangles

UNITS = {"loss": "nats per token"}  # of curves with these names
MOST_MAPS = 3  # side by side
AXES = {"influence": "row: whose output moves; column: which token was changed"}
CANNOT_DRAW = "every matrix of one setting needs its counterpart in all others"


def choose(
    frames: Mapping[str, Mapping[str, Any]],
    tokens: Sequence[str],
    numbers: Mapping[str, str | float] | None = None,
    meter: tuple[str, Mapping[str, float]] | None = None,
    *,
    fractions: Sequence[str] = ("weights",),
    axes: Mapping[str, str] | None = None,
    alt: str | None = None,
) -> Figure:
    """Return a figure that shows one named setting at a time, chosen by buttons.

    NaN is hatched.

    Parameters
    ----------
    frames
        Maps a setting's name to its one to three matrices (T, T), by title; the same
        titles in every setting.
    tokens
        The names of the T rows and columns.
    numbers
        A sentence or a number for each setting; None leaves them out.
    meter
        A name, and a value of 0 or more for each setting, drawn as a bar (0 = no bar);
        None means no meter.
    fractions
        The titles of maps that are coloured from 0 to 1, with the sum of each row
        beside it; the others go from 0 to their largest value in any setting.
    axes
        What rows and columns of a map are, by title; None means queries and keys.
    alt
        The text alternative; None means a sentence that names settings and meter.

    Raises
    ------
    ValueError
        For arguments that do not fit together.
    """
    tokens = validation.names("tokens", tokens)
    maps = {
        name: {
            title: _matrix(m, f"{name}, {title}")
            for title, m in validation.mapping(name, mine).items()
        }
        for name, mine in validation.mapping("frames", frames).items()
    }
    _check_frames(maps, len(tokens))
    _check_keys(numbers, maps, "numbers")
    if meter is not None:
        parts = validation.names("meter", meter)
        if len(parts) != 2:
            raise ValueError(f"meter has {len(parts)} parts, expected (name, values)")
        meter = parts[0], parts[1]
    _check_keys(meter[1] if meter else None, maps, "meter")
    titles = list(next(iter(maps.values())))
    unknown = {*validation.names("fractions", fractions)} - {*titles, "weights"}
    if unknown:
        raise ValueError(
            f"fractions holds {sorted(unknown)}, expected some of {titles}"
        )
    alt = alt or _alt_of_choice(maps, meter)
    state = _state_of_choice(maps, titles, fractions, axes or {}) | {
        "tokens": [str(token) for token in tokens],
        "numbers": [_said((numbers or {}).get(name, "")) for name in maps],
        "meter": meter and [meter[0], [_or_none(meter[1][name]) for name in maps]],
    }
    rows = len(tokens) * min(40, max(6, 300 // len(tokens)))
    picture = _picture_of_choice(maps, titles, tokens, meter, alt)
    return Figure("frames", state, picture, alt, height=250 + rows)


def scrub(
    maps: Any,
    steps: Sequence[int],
    tokens: Sequence[str],
    curves: Mapping[str, Any] | None = None,
    *,
    alt: str | None = None,
) -> Figure:
    """Return a figure with a slider over N checkpoints of a training run.

    Parameters
    ----------
    maps
        (N, T, T), one head's causal weights at each checkpoint.
    steps
        (N,), the training steps, rising.
    tokens
        The names of the T tokens.
    curves
        Maps a name to its N values, or to a pair (steps, values) of its own; a loss is
        in nats per token. None means no curves.
    alt
        The text alternative; None means a sentence about the run.

    Raises
    ------
    ValueError
        For shapes that do not fit, and for weights outside 0 to 1 or above the
        diagonal.
    """
    tokens = validation.names("tokens", tokens)
    steps = [_whole(step) for step in validation.names("steps", steps)]
    maps = _checked_maps(maps, len(steps), len(tokens))
    curves = {} if curves is None else validation.mapping("curves", curves)
    if any(a >= b for a, b in zip(steps, steps[1:], strict=False)):
        raise ValueError(f"steps is {steps}, expected numbers that rise")
    drawn = {name: _curve(name, line, steps) for name, line in curves.items()}
    alt = alt or (
        f"One head's attention on {plural(len(tokens), 'token')} at "
        f"{plural(len(steps), 'checkpoint')} of a training run, from step "
        f"{steps[0]} to step {steps[-1]}"
        + "".join(
            f"; {name} from {ys[0]:.3g} to {ys[-1]:.3g}"
            for name, (_, ys) in drawn.items()
        )
        + "."
    )
    packed = pack_triangles(maps, exact=True)
    if len(packed["data"]) > MOST_BYTES * 0.7:
        packed = pack_triangles(maps, exact=False)
    state = {
        "kind": "scrub",
        "tokens": [str(token) for token in tokens],
        "steps": steps,
        "maps": packed,
        "curves": [
            {"name": name, "unit": UNITS.get(name, ""), "xs": xs, "ys": ys}
            for name, (xs, ys) in drawn.items()
        ],
    }
    chosen = sorted({0, len(steps) // 2, len(steps) - 1})
    picture = plots.as_png(
        plots.show_attention,
        maps[chosen],
        tokens,
        title=[f"step {steps[i]}" for i in chosen],
        values=False,
        alt=alt,
    )
    return Figure("frames", state, picture, alt, height=620)


def _matrix(values: Any, name: str) -> np.ndarray:
    matrix = validation.array(name, values)
    if matrix.ndim != 2 or not matrix.size:
        raise ValueError(f"{name} has the shape {matrix.shape}, expected (T, T)")
    return matrix


def _check_frames(maps: Mapping[str, Mapping[str, np.ndarray]], size: int) -> None:
    """Raise ValueError unless all settings have the same 1 to 3 maps (size, size)."""
    if not maps:
        raise ValueError("frames is empty, expected one setting or more")
    first = list(next(iter(maps.values())))
    for name, mine in maps.items():
        if list(mine) != first:
            raise ValueError(
                f"setting {name!r} has the maps {list(mine)}, the first "
                f"one {first}: {CANNOT_DRAW}"
            )
        for title, matrix in mine.items():
            if matrix.shape != (size, size):
                raise ValueError(
                    f"{name}, {title} has the shape {matrix.shape}, "
                    f"expected ({size}, {size}) for {size} tokens"
                )
    if not 1 <= len(first) <= MOST_MAPS:
        raise ValueError(f"{len(first)} maps side by side, expected 1 to {MOST_MAPS}")


def _check_keys(given: Mapping[str, Any] | None, maps: Mapping, what: str) -> None:
    if given is not None and set(validation.mapping(what, given)) != set(maps):
        raise ValueError(
            f"{what} is for {list(given)}, expected one entry for each "
            f"setting: {list(maps)}"
        )


def _state_of_choice(
    maps: Mapping, titles: list[str], fractions: Sequence[str], axes: Mapping[str, str]
) -> dict:
    """Return what is drawn of the maps, packed in the order setting, map, row."""
    stacked = np.stack([[mine[title] for title in titles] for mine in maps.values()])
    return {
        "kind": "choose",
        "settings": list(maps),
        "titles": titles,
        "fractions": [title in fractions for title in titles],
        "axes": [
            axes.get(title, AXES.get(title, "rows: query, columns: key"))
            for title in titles
        ],
        "maps": pack(stacked.astype(np.float32)),
    }


def _alt_of_choice(maps: Mapping, meter: tuple[str, Mapping[str, float]] | None) -> str:
    titles = " and ".join(next(iter(maps.values())))
    if meter is None:
        return (
            f"{titles[:1].upper()}{titles[1:]} at "
            f"{plural(len(maps), 'setting')}: {', '.join(maps)}."
        )
    values = (f"{name} {_said(meter[1][name]) or 'none'}" for name in maps)
    return (
        f"{titles} at {plural(len(maps), 'setting')}; {meter[0]}: {', '.join(values)}."
    )


def _said(value: str | float) -> str:
    if isinstance(value, str):
        return value
    return "not a number" if np.isnan(value) else f"{float(value):.4g}"


def _or_none(value: float) -> float | None:
    value = float(validation.array("the meter's value", value))
    if value < 0:
        raise ValueError(f"the meter's value is {value}, expected 0 (none) or more")
    return value if np.isfinite(value) else None


def _picture_of_choice(
    maps: Mapping,
    titles: list[str],
    tokens: Sequence[str],
    meter: tuple[str, Mapping[str, float]] | None,
    alt: str,
) -> bytes:
    """Return the first map of each setting, with its meter, as a still picture."""
    shown = [mine[titles[0]] for mine in maps.values()]
    names = [str(token)[:12] for token in tokens] if len(tokens) <= 12 else None
    return plots.as_png(
        plots.show_matrix,
        shown,
        title=[_titled(name, meter) for name in maps],
        values=False,
        xlabel=titles[0],
        rows=names,
        columns=names,
        alt=alt,
    )


def _titled(name: str, meter: tuple[str, Mapping[str, float]] | None) -> str:
    """Return a setting's name, and what the meter shows there."""
    if meter is None:
        return name
    value = float(meter[1][name])
    return f"{name}: {meter[0]} {value:.2f}" if value else f"{name}: {meter[0]} 0"


def _checked_maps(maps: Any, count: int, size: int) -> np.ndarray:
    maps = validation.array("maps", maps)
    if maps.shape != (count, size, size) or not maps.size:
        raise ValueError(
            f"maps has the shape {maps.shape}, expected ({count}, {size}, "
            f"{size}) for {count} steps and {size} tokens"
        )
    if not (maps >= -1e-6).all() or not (maps <= 1 + 1e-5).all():
        raise ValueError("maps holds numbers outside 0 to 1, or NaN; expected weights")
    if np.abs(np.triu(maps, 1)).max() > 1e-6:
        raise ValueError(
            "maps has weights above the diagonal: expected causal ones "
            "(for others use `choose`)"
        )
    return maps


def _whole(step: Any) -> int:
    number = validation.number("a step", step)
    if number != int(number):
        raise ValueError(f"step {step} is not a whole number")
    return int(number)


def _curve(name: str, line: Any, steps: list[int]) -> tuple[list[float], list[float]]:
    """Return a curve as its steps and values; raise ValueError if they do not fit."""
    pair = isinstance(line, tuple) and len(line) == 2 and np.ndim(line[0]) == 1
    xs, ys = line if pair else (steps, line)
    xs, ys = (validation.array(f"curve {name!r}", x) for x in (xs, ys))
    if xs.shape != ys.shape or xs.ndim != 1 or not xs.size:
        raise ValueError(
            f"curve {name!r} has {ys.shape} values for {xs.shape} steps; "
            f"give one for each of the {len(steps)} checkpoints, or a "
            "pair (steps, values)"
        )
    if not (np.isfinite(xs).all() and np.isfinite(ys).all()):
        raise ValueError(f"curve {name!r} holds NaN or infinity; leave them out")
    if (np.diff(xs) <= 0).any():
        raise ValueError(f"the steps of curve {name!r} do not rise")
    return xs.round(6).tolist(), ys.round(6).tolist()
