"""The course's own steps in nbgrader's pipelines (see `nbgrader_config.py`).

nbgrader is for teachers and authors: nothing else in the package imports this file.
"""

import os
import re
from textwrap import dedent, indent
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbgrader import preprocessors
from nbgrader.preprocessors import (
    CheckCellMetadata,
    ClearHiddenTests,
    ClearOutput,
    ComputeChecksums,
    DeduplicateIds,
    LockCells,
    NbGraderPreprocessor,
    OverwriteCells,
    OverwriteKernelspec,
    SaveCells,
)

from gpt2_lesson.classroom.problem_sets import bound_names, check_regions

BEGIN, INSTEAD, END = "### BEGIN SOLUTION", "### INSTEAD", "### END SOLUTION"
REGION = re.compile(
    rf"^([ \t]*){BEGIN}[ \t]*\n(.*?)^[ \t]*{END}[ \t]*$", re.MULTILINE | re.DOTALL
)
WRITE = "# your code here\nraise NotImplementedError"


class ClearSolutions(preprocessors.ClearSolutions):
    """Replace each solution by what a learner starts from.

    In a function this is an error that the checks recognise as "not written yet"; at
    the top level of a cell, `name = ...` for each name that the solution assigns. After
    a line `### INSTEAD`, it is the commented lines, without their "# ".
    """

    def _replace_solution_region(self, cell: NotebookNode, language: str) -> bool:
        check_regions(cell.source)
        source, found = REGION.subn(
            lambda match: indent(_stub(cell.cell_type, *match.groups()), match[1]),
            cell.source,
        )
        cell.source = source
        return bool(found)


def _stub(kind: str, margin: str, solution: str) -> str:
    """Return what replaces a solution, without indentation."""
    solution, instead, given = dedent(solution).partition(f"{INSTEAD}\n")
    if instead and kind == "code":
        return re.sub(r"^# ?", "", given.rstrip("\n"), flags=re.M)
    if instead:
        return given.strip("\n")
    if kind != "code":
        return "*Your answer here.*"
    if margin:
        return WRITE
    names = bound_names(solution)
    return "\n".join(f"{name} = ...  # your answer here" for name in names) or (
        "# your code here"
    )


class FindCells(NbGraderPreprocessor):
    """Restore nbgrader's metadata that an editor removed from a student's cells.

    Without them a right answer gets no points, without a warning. Cells are identified
    by their ids; what was restored and what is still missing is logged.
    """

    def preprocess(self, nb: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        known = self._released(resources["nbgrader"])
        there = {cell.metadata.get("nbgrader", {}).get("grade_id") for cell in nb.cells}
        lost = known.keys() - there
        for cell in nb.cells:
            if cell.get("id") in lost and "grade_id" not in cell.metadata.get(
                "nbgrader", {}
            ):
                cell.metadata["nbgrader"] = known[cell.id]
                lost.remove(cell.id)
        self._report(resources["nbgrader"], known.keys() - there - lost, lost)
        return nb, resources

    def _released(self, names: dict[str, str]) -> dict[str, NotebookNode]:
        """Return nbgrader's metadata of each cell of the released set, by cell id."""
        course = self.parent.parent.coursedir  # exporter, converter
        folder = course.format_path(course.release_directory, ".", names["assignment"])
        path = os.path.join(course.root, folder, f"{names['notebook']}.ipynb")
        return {
            cell.id: cell.metadata.nbgrader
            for cell in nbformat.read(path, as_version=4).cells
            if cell.metadata.get("nbgrader")
        }

    def _report(self, names: dict[str, str], found: set[str], lost: set[str]) -> None:
        for cells, what in (
            (found, "had lost nbgrader's metadata: put back"),
            (lost, "are missing: look at this notebook by hand"),
        ):
            if cells:
                self.log.warning(
                    "%s, %s: cells %s %s",
                    names["student"],
                    names["notebook"],
                    ", ".join(sorted(cells)),
                    what,
                )


RELEASING = [
    LockCells,
    ClearSolutions,
    ClearOutput,
    CheckCellMetadata,
    ComputeChecksums,
    SaveCells,
    ClearHiddenTests,
    ComputeChecksums,
    CheckCellMetadata,
]
SANITIZING = [
    FindCells,
    ClearOutput,
    DeduplicateIds,
    OverwriteKernelspec,
    OverwriteCells,
    CheckCellMetadata,
]
