"""Maps of cells: attention weights, matrices."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from gpt2_lesson import validation
from gpt2_lesson.plots.picture import (
    GREY,
    check_length,
    colour_scale,
    floats,
    ink_on,
    name_ticks,
    number_text,
    picture,
    short_name,
)

SMALL = 8  # cells a side up to which numbers are written
NAMED = 64  # cells a side up to which they are named, else counted


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

    Colours run from 0 to 1.

    Parameters
    ----------
    weights
        (Tq, Tk), or (H, Tq, Tk) for one small map per head.
    tokens
        The names of the Tq queries.
    keys
        The names of the Tk keys; None means that `tokens` names them, and that fewer
        queries than keys are the last ones.
    title
        One title, or one for each map.
    values
        Whether to write the numbers into the cells; None does so where they fit.
    alt
        The text alternative.

    Raises
    ------
    ValueError
        If the names do not match the weights, or for an empty `alt`.
    """
    maps = floats(weights, "weights", dims=(2, 3))
    names = [f"head {h}" for h in range(len(maps))] if maps.ndim == 3 else [""]
    if not isinstance(title, str):
        title = validation.names("title", title)
        check_length(len(title), len(names), "titles", "maps")
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

    0 is the lightest colour: blue gets darker with the value, and if there are negative
    values, they are blue and positive ones red. NaN is hatched, infinity grey.

    Parameters
    ----------
    matrix
        (R, C), or a list of such matrices.
    title
        One title, or one for each matrix.
    rows, columns
        The names of the R rows and C columns; None counts them.
    xlabel, ylabel, alt
        The names of the axes, and the text alternative.
    values
        Whether to write the numbers into the cells; None does so where they fit.

    Raises
    ------
    ValueError
        If names or titles do not match the matrices, or for an empty `alt`.
    """
    many = isinstance(matrix, list | tuple) and matrix and np.ndim(matrix[0]) == 2
    maps = [floats(m, "matrix", dims=(2,)) for m in (matrix if many else [matrix])]
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
        colours=colour_scale(maps),
    )


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
                check_length(len(given), length, f"names {list(given)[:8]}", what)
    high, wide = np.max([cells.shape for cells in maps], axis=0)
    if max(high, wide) > NAMED:
        rows = columns = None
    across = min(len(maps), 4)
    down = -(-len(maps) // across)
    numbers = max(high, across * wide - 4) <= SMALL if values is None else values
    cell = _cell_size(high, wide, across, numbers, named=bool(rows or columns))
    width = max(across * (wide * cell + 0.3) + 1.2, 4.0)
    height = max(down * (high * cell + 0.5) + 0.9, 1.8)
    with picture((width, height), alt, title, down, across) as (fig, axes):
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
                number_text(value),
                ha="center",
                va="center",
                fontsize=9,
                color=ink_on(colour),
            )
    return image


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
            name_ticks(
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
