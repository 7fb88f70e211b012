"""The course's problem sets, and what a student hands in."""

import re
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from gpt2_lesson.classroom.problem_sets import (
    EXERCISES,
    SOURCES,
    is_answer,
    place,
    problem_sets,
)

ROOT = Path(__file__).parents[2]
SETS = problem_sets(ROOT)
each_set = pytest.mark.parametrize("name", SETS)


def read(folder: str, name: str) -> NotebookNode:
    """Return the source or the exercise of a set."""
    return nbformat.read(place(ROOT, folder, name), as_version=4)


def handed_in(name: str, *, written: bool = True) -> NotebookNode:
    """Return a student's notebook: the exercise, with the solutions written in."""
    notebook = read(EXERCISES, name)
    for cell, own in zip(notebook.cells, read(SOURCES, name).cells, strict=True):
        if written and is_answer(own):
            cell.source = re.sub(
                r"### INSTEAD.*?(?=### END)", "", own.source, flags=re.S
            )
    return notebook
