"""One style and a text alternative for every picture."""

import io
import textwrap
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from IPython.display import Image, display
from matplotlib import style
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from gpt2_lesson import validation

SIZES = {"wide": (6.0, 3.0), "square": (4.0, 4.0), "strip": (8.0, 2.0)}
# Told apart in every kind of colour blindness; the line styles say it once more.
COLOURS = ["#5790fc", "#f89c20", "#e42536", "#964a8b", "#9c9ca1", "#7a21dd"]
LINES = ["-", "--", "-.", (0, (1, 1)), (0, (6, 1, 1, 1, 1, 1)), (0, (8, 3))]
GREY = "#d4d4d4"
INK = "#222222"
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "text.parse_math": False,
    "axes.edgecolor": "#888888",
    "xtick.color": "#888888",
    "ytick.color": "#888888",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
LABEL = 16  # characters of a cell's name
_sinks: list[list[bytes]] = []


def as_png(draw: Callable[..., None], *args: Any, **settings: Any) -> bytes:
    """Return the PNG that `draw`, one of the `show_` functions, would have shown.

    Letters that the font lacks are boxes in it, without a warning: the figure over it
    has them all.
    """
    if not callable(draw):
        raise TypeError(
            f"draw is {validation.shown(draw)}, expected one of the `show_` functions"
        )
    _sinks.append([])
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing")
            draw(*args, **settings)
    finally:
        pictures = _sinks.pop()
    if not pictures:
        raise ValueError(
            f"{draw.__name__} drew nothing, expected one of the `show_` functions"
        )
    return pictures[-1]


class Picture(Image):
    """A PNG whose text form is its text alternative, for where no picture is shown."""

    def __repr__(self) -> str:
        return self.alt


@contextmanager
def picture(
    size: tuple[float, float],
    alt: str,
    title: str = "",
    rows: int = 1,
    columns: int = 1,
    save: str | Path | None = None,
) -> Iterator[tuple[Figure, Any]]:
    """Give a figure in the course's style and its grid of axes; afterwards show it."""
    if not isinstance(alt, str) or not alt.strip():
        raise ValueError(f"alt is {alt!r}; say the point of the picture in a sentence")
    with style.context(["default", STYLE]):
        fig = Figure(figsize=size, dpi=100, layout="constrained")
        fig.suptitle(title, fontsize=11)
        yield fig, fig.subplots(rows, columns, squeeze=False)
        png = io.BytesIO()
        fig.savefig(png, format="png", metadata={"Software": None})
    if save is not None:
        Path(save).write_bytes(png.getvalue())
    elif _sinks:
        _sinks[-1].append(png.getvalue())
    else:
        display(Picture(png.getvalue(), format="png", alt=alt))


def inches(name: str) -> tuple[float, float]:
    if name not in SIZES:
        raise ValueError(f"size is {name!r}; expected one of {', '.join(SIZES)}")
    return SIZES[name]


def floats(values: Any, name: str, dims: tuple[int, ...] | None = None) -> np.ndarray:
    """Return the values as floats; raise ValueError for dimensions not in `dims`."""
    array = validation.array(name, values)
    if dims is not None and (array.ndim not in dims or 0 in array.shape):
        wanted = " or ".join(str(d) for d in dims)
        raise ValueError(
            f"{name} has shape {array.shape}; "
            f"expected {wanted} dimensions, none of them empty"
        )
    return array


def check_length(got: int, wanted: int, what: str, of: str) -> None:
    if got != wanted:
        raise ValueError(f"{what}: got {got} for {wanted} {of}; give one for each")


def number_text(value: float) -> str:
    """Return the number in few characters: whole as it is, else two decimals."""
    if np.isinf(value):
        return "∞" if value > 0 else "−∞"
    short = f"{value:.0f}" if value == np.round(value) else f"{value:.2f}"
    return short.replace("-", "−")


def same_format(values: np.ndarray) -> Callable[[float], str]:
    """Return what writes these numbers in one format: all whole, or two decimals."""
    whole = all(not np.isfinite(x) or x == np.round(x) for x in values)
    return lambda x: number_text(x) if whole or not np.isfinite(x) else f"{x:.2f}"


def token_name(token: Any) -> str:
    """Return a token as a label: blanks get a word, unprintable characters a code."""
    words = {" ": "space", "\n": "newline", "\t": "tab", "": "empty"}
    text = words.get(token, str(token))
    return text if text.isprintable() else repr(text)[1:-1]


def short_name(token: Any, most: int = LABEL) -> str:
    """Return a token's name, cut to `most` characters: it leaves room for the rest."""
    text = token_name(token)
    return text if len(text) <= most else f"{text[: most - 1]}…"


def colour_scale(arrays: Sequence[np.ndarray]) -> tuple[str, float, float]:
    """Return a colour map and its ends, in which 0 is the lightest colour."""
    flat = np.concatenate([array.ravel() for array in arrays])
    flat = flat[np.isfinite(flat)]
    top = float(np.abs(flat).max(initial=0)) or 1.0
    return ("RdBu_r", -top, top) if (flat < 0).any() else ("Blues", 0.0, top)


def ink_on(colour: np.ndarray | Sequence[float]) -> str:
    """Return black or white, whichever is easier to read on the colour."""
    return INK if np.dot(colour[:3], (0.299, 0.587, 0.114)) > 0.5 else "white"


def name_ticks(
    axis: Axis,
    names: Sequence[str],
    *,
    at: float = 0.0,
    room: float = 0,
    small: bool = False,
) -> None:
    """Put the names at their ticks, in two lines or rotated if `room` is too small."""
    if room >= 6:
        fill = textwrap.TextWrapper(int(room), break_long_words=False).fill
        names = [fill(name) for name in names]
    axis.set_ticks(np.arange(len(names)) + at, labels=names)
    turn = room and max(len(line) for name in names for line in name.split("\n")) > room
    for label, name in zip(axis.get_ticklabels(), names, strict=True):
        label.set_fontsize(8 if small else 9)
        label.set_rotation(90 if turn and len(name) > 1 else 0)
