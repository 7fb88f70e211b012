"""Stored tables of training runs: what the scripts in `figures` share.

A table is a CSV file with one line for each run, written when the run ends. Runs that
are in the file are not made again.
"""

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat


def lesson_names(
    lesson: Path, cells: Iterable[str], exported: ModuleType
) -> dict[str, Any]:
    """Return what a lesson's module exports, and what these cells of it define."""
    sources = {cell.id: cell.source for cell in nbformat.read(lesson, 4).cells}
    names = vars(exported).copy()
    with redirect_stdout(io.StringIO()):
        for cell in cells:
            exec(sources[cell], names)
    return names


def read_runs(path: Path, columns: Mapping[str, type]) -> list[tuple]:
    """Return the lines of a table, each column as the type given; none without it."""
    if not path.exists():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [tuple(kind(row[name]) for name, kind in columns.items()) for row in rows]


def add_run(
    path: Path, columns: Iterable[str], run: Iterable[object], *results: float
) -> None:
    """Add a line to a table, which begins with the names of its columns."""
    new = not path.exists()
    with open(path, "a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if new:
            writer.writerow(columns)
        writer.writerow([*run, *(f"{result:.4f}" for result in results)])


def lowest_power(power: int, loss: Callable[[int], float]) -> int:
    """Go downhill from `power`, until the losses of both its neighbours are higher."""
    while True:
        best = min([power, power - 1, power + 1], key=loss)
        if best == power:
            return power
        power = best
