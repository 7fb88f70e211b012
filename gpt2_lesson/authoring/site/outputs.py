"""The outputs of lessons with live figures, kept in the cache folder.

A lesson runs again when its code or the package has changed, not when its prose has.
"""

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from gpt2_lesson.authoring.notebooks import PACKAGE, normalise, read
from gpt2_lesson.authoring.run import execute
from gpt2_lesson.files import atomic_write, cache_folder

MOST_STORED = 100  # lessons, of this and of earlier versions
READ_BY_LESSONS = {".py", ".js", ".css", ".json", ".safetensors"}
IMPORTED_BY_NONE = {"authoring", "bench", "classroom", "cli"}


def run_once(path: Path, timeout: float) -> None:
    """Run the lesson at `path`, unless the cache has its outputs.

    Raises LessonFailed, naming the cell, and then stores nothing.
    """
    notebook = normalise(read(path))
    stored = _place(notebook)
    if not stored.exists():
        ran = execute(notebook, path, timeout, alive=True)
        stored.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(stored, nbformat.writes(ran))
        by_age = sorted(stored.parent.iterdir(), key=lambda path: path.stat().st_mtime)
        for old in by_age[:-MOST_STORED]:
            old.unlink()


def with_outputs(notebook: NotebookNode) -> NotebookNode:
    """Return a notebook with the outputs of its last run, if the cache has them.

    Else with those that are stored in it.
    """
    notebook = normalise(notebook)
    stored = _place(notebook)
    if stored.exists():
        ran = [cell for cell in read(stored).cells if cell.cell_type == "code"]
        for cell in notebook.cells:
            if cell.cell_type == "code":
                cell.outputs = ran.pop(0).outputs
    return notebook


def _place(notebook: NotebookNode) -> Path:
    """Return where the outputs of a notebook in normal form are stored."""
    digest = hashlib.sha256(_package().encode())
    for cell in notebook.cells:
        if cell.cell_type == "code":
            digest.update(f"{cell.source}\0".encode())
    return cache_folder() / "site" / f"{digest.hexdigest()}.ipynb"


@cache
def _package() -> str:
    """Return the hash of what lessons import: the package's parts, and PyTorch."""
    digest = hashlib.sha256(version("torch").encode())
    for path in sorted(PACKAGE.rglob("*")):
        part = path.relative_to(PACKAGE).parts[0]
        if path.suffix in READ_BY_LESSONS and part not in IMPORTED_BY_NONE:
            digest.update(path.read_bytes())
    return digest.hexdigest()
