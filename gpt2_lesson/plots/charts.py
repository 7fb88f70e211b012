"""Lines, bars, histograms."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import to_rgb
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from gpt2_lesson import validation
from gpt2_lesson.plots.picture import (
    COLOURS,
    LINES,
    SIZES,
    check_length,
    floats,
    inches,
    name_ticks,
    picture,
    same_format,
    token_name,
)

RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


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

    Parameters
    ----------
    lines
        Maps each name to ys (x counts 0, 1, 2, ...) or to a tuple (xs, ys). With
        several runs for each x, ys (x, runs), the line goes through their means, and a
        bar at each x reaches from the lowest run to the highest.
    xlabel, ylabel, title, alt
        The names of the axes, the heading, and the text alternative.
    levels
        Named horizontal lines, dashed and grey; None means no levels.
    logx, logy
        Whether an axis is logarithmic.
    xnames
        Names for x = 0, 1, 2, ...; None means numbers.
    size
        "wide" (6 x 3 inches), "square" (4 x 4) or "strip" (8 x 2).
    save
        Write the PNG to this path and show nothing; None shows it.

    Raises
    ------
    ValueError
        For a line without a finite value, or an empty `alt`.
    """
    validation.mapping("lines", lines)
    levels = {} if levels is None else validation.mapping("levels", levels)
    levels = {name: validation.number(f"level {name}", y) for name, y in levels.items()}
    with picture(inches(size), alt, title, save=save) as (fig, [[ax]]):
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
            name_ticks(
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

    The numbers stand above the bars where they fit.

    Parameters
    ----------
    values
        One number for each label, or a dictionary from names to such lists.
    labels
        The names of the bars, or of the groups.
    xlabel, ylabel, title, alt
        The names of the axes, the heading, and the text alternative.

    Raises
    ------
    ValueError
        If the lengths differ, or for an empty `alt`.
    """
    groups = values if isinstance(values, Mapping) else {"": values}
    validation.mapping("values", groups)
    names = [token_name(label) for label in validation.names("labels", labels)]
    groups = {
        name: floats(numbers, f"values {name}".strip(), dims=(1,))
        for name, numbers in groups.items()
    }
    text = same_format(np.concatenate(list(groups.values())))
    with picture(SIZES["wide"], alt, title) as (_, [[ax]]):
        for i, (name, heights) in enumerate(groups.items()):
            check_length(len(heights), len(names), f"values {name}".strip(), "labels")
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
        name_ticks(ax.xaxis, names, room=66 / len(names))
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

    Parameters
    ----------
    samples
        Maps a name to values of any shape. Values that are not finite are left out, and
        their number is added to the name.
    bins
        How many bins of equal width, or their edges.
    xlabel, ylabel, title, alt
        The names of the axes, the heading, and the text alternative.

    Raises
    ------
    ValueError
        If there is no finite value, or for an empty `alt`.
    """
    validation.mapping("samples", samples)
    flat = {name: floats(x, name).ravel() for name, x in samples.items()}
    kept = {name: x[np.isfinite(x)] for name, x in flat.items()}
    if not any(map(len, kept.values())):
        raise ValueError("samples holds no finite number, so there is nothing to show")
    wanted: np.ndarray | int = (
        floats(bins, "bins", dims=(1,))
        if np.ndim(bins)
        else validation.whole_number("bins", bins, 1)
    )
    edges = np.histogram_bin_edges(np.concatenate(list(kept.values())), wanted)
    with picture(SIZES["wide"], alt, title) as (_, [[ax]]):
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


def show_timeline(
    lanes: Mapping[str, Sequence[tuple[str, float, float]]],
    *,
    xlabel: str,
    title: str = "",
    alt: str,
) -> None:
    """Show what happened when: in each lane, spans `(name, start, end)` on one axis.

    Spans of one name have one colour. Raises ValueError for a lane without spans.
    """
    validation.mapping("lanes", lanes)
    spans = [_spans(name, lane) for name, lane in lanes.items()]
    kinds = list(dict.fromkeys(kind for lane in spans for kind, *_ in lane))
    size = (SIZES["wide"][0], 1.2 + 0.3 * len(lanes))
    with picture(size, alt, title) as (_, [[ax]]):
        for i, kind in enumerate(kinds):
            bars = [
                (row, start, end - start)
                for row, lane in enumerate(spans)
                for found, start, end in lane
                if found == kind
            ]
            rows, starts, widths = np.array(bars).T
            colour = COLOURS[i % len(COLOURS)]
            ax.barh(rows, widths, 0.7, starts, label=kind, color=colour, alpha=0.8)
        ax.set(xlabel=xlabel, ylim=(len(lanes) - 0.4, -0.6))
        name_ticks(ax.yaxis, [token_name(name) for name in lanes])
        _name_colours(ax, len(kinds))


def _spans(lane: str, spans: Any) -> list[tuple[str, float, float]]:
    """Return a lane's spans; raise ValueError if there are none or one is invalid."""
    found = []
    for span in validation.names(f"lane {lane!r}", spans):
        if not isinstance(span, tuple | list) or len(span) != 3:
            raise ValueError(
                f"lane {lane!r} has {validation.shown(span)}, expected (name, start, "
                "end)"
            )
        start = validation.number(f"a start in {lane!r}", span[1])
        end = validation.number(f"an end in {lane!r}", span[2], start)
        found.append((str(span[0]), start, end))
    if not found:
        raise ValueError(f"lane {lane!r} has no spans to draw")
    return found


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
    runs = floats(line[1] if pair else line, f"line {name!r}", dims=(1, 2))
    runs = runs.reshape(len(runs), -1)  # (xs, runs)
    ys = runs.mean(1)
    xs = floats(line[0], f"xs of {name!r}", dims=(1,)) if pair else np.arange(len(ys))
    check_length(len(xs), len(ys), f"xs of {name!r}", "ys")
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
