"""Draw the lessons' pictures: one style, and a text alternative for every picture.

Each function shows a PNG below the notebook cell and returns None. `alt` says the
point of the picture in a sentence, for those who cannot see it; it is stored with the
picture.
Tensors, arrays and nested lists are all accepted.
"""

import io
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from IPython.display import Image, display
from matplotlib import colormaps, style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from gpt2_lesson import validation

__all__ = [
    "as_png",
    "show_attention",
    "show_bars",
    "show_histograms",
    "show_lines",
    "show_matrix",
    "show_text",
    "token_name",
]

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
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
SMALL = 8  # cells a side up to which numbers are written
NAMED = 64  # cells a side up to which they are named, else counted
LABEL = 16  # characters of a cell's name
WRAP = 60  # characters a line in show_text


# ---------------------------------------------------------------- the pictures


def show_attention(
    weights: Any,
    tokens: Sequence[str],
    keys: Sequence[str] | None = None,
    *,
    title: str | Sequence[str] = "",
    values: bool | None = None,
    alt: str,
) -> None:
    """Show attention weights as a map: a row for each query, a column for each key.

    `weights` is (Tq, Tk), or (H, Tq, Tk) for one small map per head. `tokens` names the
    rows, `keys` the columns; without `keys` the columns are `tokens` too, and fewer
    queries than keys are the last ones. `title` is one title, or one for each map.
    Colours run from 0 to 1. `values` writes the numbers into the cells; None does so
    where they fit. Raises ValueError if the names do not match the weights.
    """
    maps = _array(weights, "weights", dims=(2, 3))
    names = [f"head {h}" for h in range(len(maps))] if maps.ndim == 3 else [""]
    if not isinstance(title, str):
        title = validation.names("title", title)
        _check_length(len(title), len(names), "titles", "maps")
        names, title = title, ""
    maps = maps.reshape(-1, *maps.shape[-2:])
    queries = validation.names("tokens", tokens)
    if keys is None:
        keys, queries = queries, queries[-maps.shape[1] :]
    _show_maps(
        list(maps),
        names,
        queries,
        keys,
        title=title,
        values=values,
        alt=alt,
        labels=("key: to this token", "query: this token attends"),
        colours=("Blues", 0.0, 1.0),
    )


def show_matrix(
    matrix: Any,
    *,
    title: str | Sequence[str] = "",
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    xlabel: str = "",
    ylabel: str = "",
    values: bool | None = None,
    alt: str,
) -> None:
    """Show a matrix, or a list of matrices side by side, as coloured cells.

    `title` is one title, or one for each matrix. `rows` and `columns` name the cells'
    positions. 0 is the lightest colour: blue gets darker with the value, and if there
    are negative values, they are blue and positive ones red. NaN is hatched, infinity
    grey. `values` writes the numbers into the cells; None does so where they fit.
    """
    many = isinstance(matrix, list | tuple) and matrix and np.ndim(matrix[0]) == 2
    maps = [_array(m, "matrix", dims=(2,)) for m in (matrix if many else [matrix])]
    titles = [title] if isinstance(title, str) else validation.names("title", title)
    names = titles if len(titles) == len(maps) else [""] * len(maps)
    if not isinstance(title, str) and len(titles) != len(maps):
        raise ValueError(
            f"got {len(titles)} titles for {len(maps)} matrices; "
            "give one title, or one for each matrix"
        )
    _show_maps(
        maps,
        names,
        rows,
        columns,
        values=values,
        alt=alt,
        title="" if names == titles else titles[0],
        labels=(xlabel, ylabel),
        colours=_colours(maps),
    )


def show_lines(
    lines: Mapping[str, Any],
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    levels: Mapping[str, float] | None = None,
    logx: bool = False,
    logy: bool = False,
    xnames: Sequence[str] | None = None,
    size: str = "wide",
    alt: str,
    save: str | Path | None = None,
) -> None:
    """Show named lines, each with its name at its end.

    A line is its y values (x counts 0, 1, 2, ...) or a tuple `(xs, ys)`. With several
    runs for each x, ys (x, runs), it goes through their means, and a bar at each x
    reaches from the lowest run to the highest. `levels` are named horizontal lines,
    dashed and grey; `xnames` are names for x = 0, 1, 2, ... `save` writes the PNG to
    that path and shows nothing. Raises ValueError for a line without a finite value.
    """
    validation.mapping("lines", lines)
    levels = {} if levels is None else validation.mapping("levels", levels)
    levels = {name: validation.number(f"level {name}", y) for name, y in levels.items()}
    with _picture(_size(size), alt, title, save=save) as (fig, [[ax]]):
        ends = [_line(ax, i, *pair) for i, pair in enumerate(lines.items())]
        ax.set(
            xlabel=xlabel,
            ylabel=ylabel,
            xscale="log" if logx else "linear",
            yscale="log" if logy else "linear",
        )
        ax.margins(x=0)
        for axis, log in ((ax.xaxis, logx), (ax.yaxis, logy)):
            if log:
                _log_ticks(axis)
        if xnames is not None:
            _name_ticks(
                ax.xaxis, [token_name(name) for name in xnames], room=66 / len(xnames)
            )
        for name, level in levels.items():
            ax.axhline(level, color="#777777", linestyle="--", linewidth=1, zorder=1)
            ends.append((name, ax.get_xlim()[1], level, "#777777"))
        fig.draw_without_rendering()  # the axes must be final before that
        _name_ends(ax, ends)


def show_bars(
    values: Any,
    labels: Sequence[str],
    *,
    xlabel: str = "",
    ylabel: str = "",
    title: str = "",
    alt: str,
) -> None:
    """Show one bar for each label, or a group of bars when `values` is a dictionary.

    `values` has one number for each label, or maps names to such lists. The numbers
    stand above the bars where they fit. Raises ValueError if the lengths differ.
    """
    groups = values if isinstance(values, Mapping) else {"": values}
    validation.mapping("values", groups)
    names = [token_name(label) for label in validation.names("labels", labels)]
    groups = {
        name: _array(numbers, f"values {name}".strip(), dims=(1,))
        for name, numbers in groups.items()
    }
    text = _alike(np.concatenate(list(groups.values())))
    with _picture(SIZES["wide"], alt, title) as (_, [[ax]]):
        for i, (name, heights) in enumerate(groups.items()):
            _check_length(len(heights), len(names), f"values {name}".strip(), "labels")
            places = np.arange(len(names)) + 0.8 * ((i + 0.5) / len(groups) - 0.5)
            bars = ax.bar(
                places,
                heights,
                0.76 / len(groups),
                label=name,
                color=COLOURS[i % len(COLOURS)],
            )
            if len(names) * len(groups) <= 14:
                ax.bar_label(bars, [text(h) for h in heights], fontsize=9, padding=1)
        ax.set(xlabel=xlabel, ylabel=ylabel, xlim=(-0.6, len(names) - 0.4))
        _name_ticks(ax.xaxis, names, room=66 / len(names))
        _name_colours(ax, len(groups))


def show_histograms(
    samples: Mapping[str, Any],
    *,
    bins: int | Sequence[float] = 40,
    xlabel: str,
    ylabel: str = "fraction of values",
    title: str = "",
    alt: str,
) -> None:
    """Show the distribution of each named tensor's values, over common bins.

    Heights are fractions of its values, so tensors of different sizes compare.
    Values that are not finite are left out, and their number is added to the name.
    """
    validation.mapping("samples", samples)
    flat = {name: _array(x, name).ravel() for name, x in samples.items()}
    kept = {name: x[np.isfinite(x)] for name, x in flat.items()}
    if not any(map(len, kept.values())):
        raise ValueError("samples holds no finite number, so there is nothing to show")
    wanted: np.ndarray | int = (
        _array(bins, "bins", dims=(1,))
        if np.ndim(bins)
        else validation.whole_number("bins", bins, 1)
    )
    edges = np.histogram_bin_edges(np.concatenate(list(kept.values())), wanted)
    with _picture(SIZES["wide"], alt, title) as (_, [[ax]]):
        for i, (name, x) in enumerate(kept.items()):
            lost = len(flat[name]) - len(x)
            parts = np.histogram(x, edges)[0] / max(len(x), 1)
            colour = COLOURS[i % len(COLOURS)]
            ax.stairs(parts, edges, fill=True, color=colour, alpha=0.25)
            ax.stairs(
                parts,
                edges,
                color=colour,
                linewidth=1.8,
                linestyle=LINES[i % len(LINES)],
                label=name + (f" ({lost} not finite)" if lost else ""),
            )
        ax.set(xlabel=xlabel, ylabel=ylabel)
        _name_colours(ax, len(kept))


def show_text(
    text: str | Sequence[str],
    values: Any,
    *,
    title: str = "",
    low_label: str,
    high_label: str,
    alt: str,
) -> None:
    """Show a text with each character on a background coloured by its number.

    `text` is a string (one value for each character) or a list of pieces (one value for
    each piece). `values` may map names to values: the text is then shown once for each.
    The labels stand at the ends of the colour scale, with the numbers there. Raises
    ValueError if the lengths differ.
    """
    pieces = [
        validation.text("a piece of text", piece)
        for piece in validation.names("text", text)
    ]
    rows = values if isinstance(values, Mapping) else {"": values}
    validation.mapping("values", rows)
    arrays = [_array(row, "values", dims=(1,)) for row in rows.values()]
    for name, array in zip(rows, arrays, strict=True):
        _check_length(len(array), len(pieces), f"values {name}".strip(), "pieces")
    places = _wrap("".join(pieces))
    lines = 1 + max(line for line, _ in places)
    name, low, high = _colours(arrays)
    scale = ScalarMappable(Normalize(low, high), name)
    height = len(rows) * (0.24 * lines + 0.3 * (rows is values)) + 0.7
    with _picture((0.11 * WRAP + 0.1, height), alt, title, len(rows), 1) as (fig, axes):
        for (ax,), name, array in zip(axes, rows, arrays, strict=True):
            spread = np.repeat(array, [len(piece) for piece in pieces])
            _text_block(ax, "".join(pieces), places, spread, scale)
            ax.set_title(name, loc="left", fontsize=10)
        bar = fig.colorbar(scale, ax=axes, location="bottom", aspect=60, pad=0.02)
        bar.set_ticks(
            [low, high],
            labels=[f"{low_label}: {_number(low)}", f"{high_label}: {_number(high)}"],
        )
        first, last = bar.ax.get_xticklabels()
        first.set_horizontalalignment("left")
        last.set_horizontalalignment("right")


# ---------------------------------------------------------------- one style for all

_sinks: list[list[bytes]] = []


def as_png(draw: Callable[..., None], *args: Any, **settings: Any) -> bytes:
    """Return the PNG that `draw`, one of the functions above, would have shown.

    Letters that the font lacks are boxes in it, without a warning: the figure over it
    has them all.
    """
    if not callable(draw):
        raise TypeError(
            f"draw is {validation.shown(draw)}, expected one of the functions above"
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
            f"{draw.__name__} drew nothing, expected one of the functions above"
        )
    return pictures[-1]


class Picture(Image):
    """A PNG whose text form is its text alternative, for where no picture is shown."""

    def __repr__(self) -> str:
        return self.alt


@contextmanager
def _picture(
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


def _size(name: str) -> tuple[float, float]:
    if name not in SIZES:
        raise ValueError(f"size is {name!r}; expected one of {', '.join(SIZES)}")
    return SIZES[name]


def _array(values: Any, name: str, dims: tuple[int, ...] | None = None) -> np.ndarray:
    """Return the values as floats; raise ValueError for dimensions not in `dims`."""
    array = validation.array(name, values)
    if dims is not None and (array.ndim not in dims or 0 in array.shape):
        wanted = " or ".join(str(d) for d in dims)
        raise ValueError(
            f"{name} has shape {array.shape}; "
            f"expected {wanted} dimensions, none of them empty"
        )
    return array


def _check_length(got: int, wanted: int, what: str, of: str) -> None:
    if got != wanted:
        raise ValueError(f"{what}: got {got} for {wanted} {of}; give one for each")


def _colours(arrays: Sequence[np.ndarray]) -> tuple[str, float, float]:
    """Return a colour map and its ends, in which 0 is the lightest colour."""
    flat = np.concatenate([array.ravel() for array in arrays])
    flat = flat[np.isfinite(flat)]
    top = float(np.abs(flat).max(initial=0)) or 1.0
    return ("RdBu_r", -top, top) if (flat < 0).any() else ("Blues", 0.0, top)


def _number(value: float) -> str:
    """Return the number in few characters: whole as it is, else two decimals."""
    if np.isinf(value):
        return "∞" if value > 0 else "−∞"
    short = f"{value:.0f}" if value == np.round(value) else f"{value:.2f}"
    return short.replace("-", "−")


def _alike(values: np.ndarray) -> Callable[[float], str]:
    """Return what writes these numbers in one format: all whole, or two decimals."""
    whole = all(not np.isfinite(x) or x == np.round(x) for x in values)
    return lambda x: _number(x) if whole or not np.isfinite(x) else f"{x:.2f}"


def token_name(token: Any) -> str:
    """Return a token as a label: blanks get a word, unprintable characters a code."""
    words = {" ": "space", "\n": "newline", "\t": "tab", "": "empty"}
    text = words.get(token, str(token))
    return text if text.isprintable() else repr(text)[1:-1]


def short_name(token: Any, most: int = LABEL) -> str:
    """Return a token's name, cut to `most` characters: it leaves room for the rest."""
    text = token_name(token)
    return text if len(text) <= most else f"{text[: most - 1]}…"


# ---------------------------------------------------------------- maps of cells


def _show_maps(
    maps: Sequence[np.ndarray],
    names: Sequence[str],
    rows: Sequence[str] | None,
    columns: Sequence[str] | None,
    *,
    title: str,
    labels: tuple[str, str],
    colours: tuple[str, float, float],
    values: bool | None,
    alt: str,
) -> None:
    """Show matrices in a grid, at most four a row, with one colour scale."""
    for cells in maps:
        for given, length, what in (
            (rows, cells.shape[0], "rows"),
            (columns, cells.shape[1], "columns"),
        ):
            if given is not None:
                given = validation.names(what, given)
                _check_length(len(given), length, f"names {list(given)[:8]}", what)
    high, wide = np.max([cells.shape for cells in maps], axis=0)
    if max(high, wide) > NAMED:
        rows = columns = None
    across = min(len(maps), 4)
    down = -(-len(maps) // across)
    numbers = max(high, across * wide - 4) <= SMALL if values is None else values
    cell = _cell_size(high, wide, across, numbers, named=bool(rows or columns))
    width = max(across * (wide * cell + 0.3) + 1.2, 4.0)
    height = max(down * (high * cell + 0.5) + 0.9, 1.8)
    with _picture((width, height), alt, title, down, across) as (fig, axes):
        for ax in axes.flat[len(maps) :]:
            ax.set_axis_off()
        for ax, cells, name in zip(axes.flat, maps, names, strict=False):
            image = _cells(ax, cells, colours, numbers)
            ax.set_title(name)
            _name_cells(ax, cells, rows, columns, cell)
        (axes[0, 0].set_xlabel if len(maps) == 1 else fig.supxlabel)(labels[0], size=10)
        (axes[0, 0].set_ylabel if len(maps) == 1 else fig.supylabel)(labels[1], size=10)
        if not numbers:
            fig.colorbar(image, ax=axes, shrink=0.6, aspect=25)


def _cell_size(high: int, wide: int, across: int, numbers: bool, named: bool) -> float:
    """Return the side of a cell in inches: room for its number, or for its name."""
    if numbers:
        return 0.5
    if across > 1:
        return min(1.6 / max(high, wide), 0.4)
    smallest = 0.125 if named else min(6.0 / wide, 0.125)
    return float(np.clip(2.8 / max(high, wide), smallest, 0.4))


def _cells(
    ax: Axes, cells: np.ndarray, colours: tuple[str, float, float], numbers: bool
) -> ScalarMappable:
    """Draw the cells; hatch NaN, and write the numbers if asked."""
    name, low, high = colours
    cmap = colormaps[name].with_extremes(bad=GREY)
    image = ax.pcolormesh(
        np.ma.masked_invalid(cells),
        cmap=cmap,
        vmin=low,
        vmax=high,
        edgecolors="white" if numbers else "none",
        linewidth=1.5,
    )
    ax.set(aspect="equal", ylim=(len(cells), 0))
    for row, column in np.argwhere(np.isnan(cells)):
        ax.add_patch(
            Rectangle(
                (column, row),
                1,
                1,
                fill=False,
                hatch="////",
                edgecolor="#999999",
                linewidth=0,
            )
        )
    if numbers:
        for (row, column), value in np.ndenumerate(cells):
            colour = image.to_rgba(value) if np.isfinite(value) else to_rgb(GREY)
            ax.text(
                column + 0.5,
                row + 0.5,
                _number(value),
                ha="center",
                va="center",
                fontsize=9,
                color=_ink_on(colour),
            )
    return image


def _ink_on(colour: np.ndarray | Sequence[float]) -> str:
    """Return black or white, whichever is easier to read on the colour."""
    return INK if np.dot(colour[:3], (0.299, 0.587, 0.114)) > 0.5 else "white"


def _name_cells(
    ax: Axes,
    cells: np.ndarray,
    rows: Sequence[str] | None,
    columns: Sequence[str] | None,
    cell: float,
) -> None:
    """Name rows and columns, or count them where `cell` (inches) is too small."""
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    for axis, given, length, room in (
        (ax.yaxis, rows, len(cells), 0),
        (ax.xaxis, columns, cells.shape[1], cell * 13),
    ):
        if given is not None and cell >= 0.12:
            _name_ticks(
                axis,
                [short_name(token) for token in given],
                at=0.5,
                room=room,
                small=cell < 0.15,
            )
        else:
            shown = SMALL if length * cell > 2 else SMALL // 2
            places = np.arange(0, length, max(1, -(-length // shown)))
            axis.set_ticks(places + 0.5, labels=[str(place) for place in places])


def _name_ticks(
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


# ---------------------------------------------------------------- lines and their names


def _log_ticks(axis: Axis) -> None:
    """Write an axis's powers of ten in one style: all as 0.01, or all as 10⁻².

    Between them 2 and 5 are named, on an axis of less than two powers.
    """
    low, high = sorted(axis.get_view_interval())
    plain = 1e-4 < low and high < 1e6

    def text(x: float, _: int | None = None) -> str:
        power = f"10{f'{np.log10(x):.0f}'.translate(RAISED)}"
        return f"{x:,.10f}".rstrip("0").rstrip(".") if plain else power

    axis.set_major_formatter(FuncFormatter(text))
    few = high < 100 * low
    axis.set_minor_locator(LogLocator(subs=(2, 5) if few else range(2, 10)))
    axis.set_minor_formatter(FuncFormatter(text) if few and plain else NullFormatter())


def _line(ax: Axes, index: int, name: str, line: Any) -> tuple[str, float, float, str]:
    """Draw one line; return its name, its last finite point and its colour."""
    pair = isinstance(line, tuple) and len(line) == 2 and np.ndim(line[0]) == 1
    runs = _array(line[1] if pair else line, f"line {name!r}", dims=(1, 2))
    runs = runs.reshape(len(runs), -1)  # (xs, runs)
    ys = runs.mean(1)
    xs = _array(line[0], f"xs of {name!r}", dims=(1,)) if pair else np.arange(len(ys))
    _check_length(len(xs), len(ys), f"xs of {name!r}", "ys")
    finite = np.flatnonzero(np.isfinite(ys))
    if not len(finite):
        raise ValueError(f"line {name!r} has no finite value to draw")
    colour = COLOURS[index % len(COLOURS)]
    style_ = LINES[(index + index // len(COLOURS)) % len(LINES)]
    ax.plot(
        xs,
        ys,
        color=colour,
        linestyle=style_,
        linewidth=2,
        marker="o" if len(finite) == 1 else None,
    )
    if runs.shape[1] > 1:
        ax.errorbar(
            xs,
            ys,
            (ys - runs.min(1), runs.max(1) - ys),
            fmt="none",
            ecolor=colour,
            capsize=4,
        )
    return name, xs[finite[-1]], ys[finite[-1]], colour


def _name_ends(ax: Axes, ends: Sequence[tuple[str, float, float, str]]) -> None:
    """Write each name to the right of its line's end, high or low enough to be read."""
    box = ax.get_window_extent()
    texts = [textwrap.fill(name, 20) for name, *_ in ends]
    wanted = [
        (ax.transData.transform((x, y))[1] - box.y0) / box.height for _, x, y, _ in ends
    ]
    heights = [(15 * text.count("\n") + 17) / box.height for text in texts]
    for text, (_, x, y, colour), place in zip(
        texts, ends, _spread(wanted, heights), strict=True
    ):
        ax.annotate(
            text,
            (x, y),
            (1.05, place),
            textcoords=ax.transAxes,
            va="center",
            color=[0.6 * c for c in to_rgb(colour)],
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "shrinkA": 0,
                "linewidth": 0.8,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )


def _spread(wanted: Sequence[float], heights: Sequence[float]) -> list[float]:
    """Return places in 0..1 nearest to the wanted ones, none closer than their heights.

    Labels that would overlap form a block, whose middle is the mean of what they want.
    """
    order = np.argsort(wanted, kind="stable")
    high = np.asarray(heights)[order]
    above = np.cumsum([0.0, *(high[1:] + high[:-1]) / 2])  # place in one block of all
    blocks: list[list[float]] = []  # [bottom, labels]
    for bottom in np.clip(wanted, 0.0, 1.0)[order] - above:
        blocks.append([bottom, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (low, few), (bottom, more) = blocks[-2:]
            blocks[-2:] = [[(few * low + more * bottom) / (few + more), few + more]]
    bottoms = np.repeat([bottom for bottom, _ in blocks], [int(n) for _, n in blocks])
    places = np.empty(len(order))
    places[order] = np.clip(bottoms, 0.0, max(0.0, 1.0 - above[-1])) + above
    return list(places)


def _name_colours(ax: Axes, names: int) -> None:
    """Name the colours above the axes, where there is more than one."""
    if names > 1:
        ax.legend(
            frameon=False,
            ncols=names,
            loc="lower left",
            bbox_to_anchor=(0, 1),
            borderaxespad=0.2,
            handlelength=1.4,
            columnspacing=1.2,
        )


# ---------------------------------------------------------------- text


def _wrap(text: str) -> list[tuple[int, int]]:
    """Return (line, column) of each character: break after spaces and at newlines."""
    places: list[tuple[int, int]] = []
    line = column = word = 0
    for index, character in enumerate(text):
        if column == WRAP:
            moved = index - word if 0 < index - word < WRAP else 0
            line, column = line + 1, moved
            places[index - moved :] = [(line, c) for c in range(moved)]
        places.append((line, column))
        column += 1
        if character == " ":
            word = index + 1
        if character == "\n":
            line, column, word = line + 1, 0, index + 1
    return places


def _text_block(
    ax: Axes,
    text: str,
    places: Sequence[tuple[int, int]],
    values: np.ndarray,
    scale: ScalarMappable,
) -> None:
    """Draw the characters at their places on coloured cells; NaN is grey."""
    lines = 1 + max(line for line, _ in places)
    ground = np.ones((lines, WRAP, 4))
    for character, place, value in zip(text, places, values, strict=True):
        ground[place] = (*to_rgb(GREY), 1) if np.isnan(value) else scale.to_rgba(value)
        shown = character if character.isprintable() else "�"
        ax.text(
            *place[::-1],
            "↵" if character == "\n" else shown,
            fontsize=11,
            family="DejaVu Sans Mono",
            color=_ink_on(ground[place]),
            ha="center",
            va="center",
        )
    ax.imshow(ground, aspect="auto", interpolation="nearest")
    ax.set_axis_off()
