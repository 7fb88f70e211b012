"""Text with colour behind its tokens."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb

from gpt2_lesson import validation
from gpt2_lesson.plots.picture import (
    GREY,
    check_length,
    colour_scale,
    floats,
    ink_on,
    number_text,
    picture,
)

WRAP = 60  # characters a line in show_text


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

    Parameters
    ----------
    text
        A string (one value for each character) or a list of strings (one for each).
    values
        The numbers, or a dictionary from names to them: the text is then shown once for
        each name.
    title, alt
        The heading, and the text alternative.
    low_label, high_label
        The names of the ends of the colour scale, to which the numbers there are added.

    Raises
    ------
    ValueError
        If the lengths differ, or for an empty `alt`.
    """
    pieces = [
        validation.text("a piece of text", piece)
        for piece in validation.names("text", text)
    ]
    rows = values if isinstance(values, Mapping) else {"": values}
    validation.mapping("values", rows)
    arrays = [floats(row, "values", dims=(1,)) for row in rows.values()]
    for name, array in zip(rows, arrays, strict=True):
        check_length(len(array), len(pieces), f"values {name}".strip(), "pieces")
    places = _wrap("".join(pieces))
    lines = 1 + max(line for line, _ in places)
    name, low, high = colour_scale(arrays)
    scale = ScalarMappable(Normalize(low, high), name)
    height = len(rows) * (0.24 * lines + 0.3 * (rows is values)) + 0.7
    with picture((0.11 * WRAP + 0.1, height), alt, title, len(rows), 1) as (fig, axes):
        for (ax,), name, array in zip(axes, rows, arrays, strict=True):
            spread = np.repeat(array, [len(piece) for piece in pieces])
            _text_block(ax, "".join(pieces), places, spread, scale)
            ax.set_title(name, loc="left", fontsize=10)
        bar = fig.colorbar(scale, ax=axes, location="bottom", aspect=60, pad=0.02)
        bar.set_ticks(
            [low, high],
            labels=[
                f"{low_label}: {number_text(low)}",
                f"{high_label}: {number_text(high)}",
            ],
        )
        first, last = bar.ax.get_xticklabels()
        first.set_horizontalalignment("left")
        last.set_horizontalalignment("right")


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
            color=ink_on(ground[place]),
            ha="center",
            va="center",
        )
    ax.imshow(ground, aspect="auto", interpolation="nearest")
    ax.set_axis_off()
