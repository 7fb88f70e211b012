"""Exams from the problem sets, for one class (`gpt2-lesson release --exam SEED`).

An exam is never committed: grading/exam contains the sources with the hidden tests, the
notebooks for the students, and the settings of nbgrader, which is run from there.
"""

import copy
import math
import re
from collections.abc import Callable
from pathlib import Path

import torch
from nbformat import NotebookNode
from torch import Generator, Tensor

from gpt2_lesson.classroom.problem_sets import (
    BY_HAND,
    CHECK,
    EXERCISES,
    SOURCES,
    exercises,
    is_answer,
    label,
    last_line,
    place,
    source,
)
from gpt2_lesson.files import atomic_write

HEADING = re.compile(r"^## \d\d\.\d+ ", re.M)
KEPT = re.compile(r"\s*Your first prediction is kept\b[^.]*\.")
HOW = """\
## How to work

Write in the cells that say *your code here* or *your answer here*, then run the check \
below. In an exam it says what is wrong, not why, and there are no hints."""
SETTINGS = '''\
"""nbgrader's settings for an exam: run its commands from this folder."""

import os

c = get_config()
load_subconfig("../../nbgrader_config.py")
ROOT = os.path.dirname(os.path.abspath(__file__))
c.CourseDirectory.root = ROOT
c.CourseDirectory.source_directory = "solutions"
c.CourseDirectory.release_directory = "exercises"
for name in ("submitted", "autograded", "feedback"):
    c.CourseDirectory[f"{name}_directory"] = name
c.CourseDirectory.db_url = "sqlite:///" + os.path.join(ROOT, "gradebook.db")
'''
MOST_PROBES, MOST_NUMBERS = 3, 150


def make_exam(root: Path, sets: list[str], seed: int) -> list[str]:
    """Write an exam of each set to grading/exam; return the files, one per line.

    The same seed gives the same hidden tests.
    """
    folder = root / "grading" / "exam"
    made = exercises(
        {name: exam(source(place(root, SOURCES, name)), seed) for name in sets}
    )
    files = {folder / "nbgrader_config.py": SETTINGS}
    for name, (with_answers, given) in made.items():
        files[place(folder, Path(SOURCES).name, name)] = with_answers
        files[place(folder, Path(EXERCISES).name, name)] = given
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, text)
    return [f"wrote {path.relative_to(root)}" for path in files]


def exam(notebook: NotebookNode, seed: int) -> NotebookNode:
    """Return a set as an exam: no hints, no afterwords, no names of mistakes.

    Checks of functions that take and return plain data also get hidden tests.
    """
    notebook = copy.deepcopy(notebook)
    cells: list[NotebookNode] = []
    part: list[NotebookNode] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            cells += _asked(part)
            part = []
        part.append(cell)
    notebook.cells = [cell for cell in cells + _asked(part) if cell.source.strip()]
    for cell in notebook.cells:
        _hide(cell, seed)
        label(cell)
    return notebook


def _asked(part: list[NotebookNode]) -> list[NotebookNode]:
    """Return the cells of a part that belong to an exam: up to its last question."""
    if not part:
        return []
    first = part[0].source
    if "## How to work" in first:
        part[0].source = first[: first.index("## How to work")] + HOW
        for cell in part:
            if re.search(r"^from gpt2_lesson import .*checks", cell.source, re.M):
                cell.source += '\n\nchecks.settings.mode = "exam"'
        return part
    if not HEADING.search(first):
        return []
    asks = [
        i
        for i, cell in enumerate(part)
        if is_answer(cell) or BY_HAND.match(cell.source) or CHECK.match(last_line(cell))
    ]
    for cell in part:
        if cell.cell_type == "markdown":
            cell.source = KEPT.sub("", cell.source).strip()
    return part[: asks[-1] + 1] if asks else []


def _hide(cell: NotebookNode, seed: int) -> None:
    """Insert hidden tests before the check of a function, where that is possible."""
    check = CHECK.match(last_line(cell))
    if check and check["check"] and (tests := hidden_tests(check["check"], seed)):
        # nbgrader gives no points to a cell that writes to stderr: a warning is enough.
        cell.source = "\n".join(
            [
                "### BEGIN HIDDEN TESTS",
                "import contextlib, io",
                "import torch",
                "",
                "with contextlib.redirect_stderr(io.StringIO()):",
                *(f"    {line}" for line in tests(check["answer"])),
                "### END HIDDEN TESTS",
                cell.source,
            ]
        )


def hidden_tests(name: str, seed: int) -> Callable[[str], list[str]] | None:
    """Return a function from a name to lines of tests, or None if there are none.

    The tests contain random inputs, which depend on the seed, and the results of the
    solution: they import nothing from the checks.
    """
    from gpt2_lesson import checks
    from gpt2_lesson.checks.exercise import Exercise

    exercise, found = checks.all_exercises()[name], []
    if not isinstance(exercise, Exercise):
        return None
    for probe in exercise.make_probes(Generator().manual_seed(seed)):
        try:
            args = [_short(arg) for arg in probe.args]
            wanted = exercise.reference(*copy.deepcopy(args))
            texts = [literal(arg) for arg in args], literal(_short(wanted, 7))
        except Exception:  # not plain data, or an error
            continue
        if probe.adapter.__name__ == "call":
            found.append(texts)
    if not found:
        return None
    pair = ["result = result[0] if isinstance(result, tuple) else result"]
    pair *= exercise.pair
    return lambda answer: [
        line
        for given, wanted in found[:MOST_PROBES]
        for line in (
            f"result = {answer}({', '.join(given)})",
            *pair,
            "torch.testing.assert_close(",
            f"    result, {wanted}, atol=1e-4, rtol=1e-3, equal_nan=True)",
        )
    ]


def _short(value: object, digits: int = 4) -> object:
    """Return a value with its floats rounded to so many digits."""
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, Tensor) and value.is_floating_point():
        numbers = [float(f"{x:.{digits}g}") for x in value.flatten().tolist()]
        return torch.tensor(numbers, dtype=value.dtype).reshape(value.shape)
    if isinstance(value, list | tuple):
        return type(value)(_short(part, digits) for part in value)
    return value


def literal(value: object) -> str:
    """Return Python code for a value: numbers, strings, tensors, lists of them.

    Raises TypeError for anything else, ValueError for a tensor too large to be read.
    """
    if isinstance(value, Tensor):
        if value.numel() > MOST_NUMBERS or 0 in value.shape:
            raise ValueError(f"{tuple(value.shape)} is too large, or empty")
        numbers = re.sub(r"\b(inf|nan)\b", r'float("\1")', str(_digits(value)))
        return f"torch.tensor({numbers}, dtype={value.dtype})"
    if isinstance(value, list | tuple):
        inside = ", ".join(map(literal, value))
        inside += "," * (isinstance(value, tuple) and len(value) == 1)
        return f"({inside})" if isinstance(value, tuple) else f"[{inside}]"
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if value is None or type(value) in (bool, int, float, str):
        return repr(value)
    raise TypeError(f"no literal for {type(value).__name__}")


def _digits(value: Tensor) -> object:
    """Return a tensor as nested lists, with the shortest decimals for float32."""

    def short(part: object) -> object:
        if isinstance(part, list):
            return [short(one) for one in part]
        return float(f"{part:.7g}") if isinstance(part, float) else part

    return short(value.tolist())
