"""The problem sets: from the notebooks with solutions to those of the learners.

A set is a notebook, notebooks/solutions/SET/SET.ipynb. From it nbgrader makes the
learners' notebook, notebooks/exercises/SET/SET.ipynb. What nbgrader must know about a
cell follows from its text (`label`), so authors write no metadata:

- a code cell with `### BEGIN SOLUTION` ... `### END SOLUTION` is for an answer;
- a code cell whose last line is `checks.NAME(ANSWER).points(N)` gives N points;
- a text cell that begins `<!-- by hand: N points -->`, with a solution between the same
  two lines, is read and graded by the teacher.
"""

import ast
import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from gpt2_lesson.authoring.notebooks import (
    PACKAGE,
    is_readable,
    matches_name,
    normalise,
    read,
)
from gpt2_lesson.files import atomic_write, scratch_folder

ROOT = PACKAGE.parent
SOURCES, EXERCISES = "notebooks/solutions", "notebooks/exercises"
CHECK = re.compile(
    r'^checks\.(?:(?P<check>(?!answer\b)\w+)\(|answer\("(?P<number>\d\d\.\d+[a-z]?)", )'
    r"(?P<answer>\w+)\)\.points\((?P<points>\d+)\)$"
)
BY_HAND = re.compile(r"<!-- by hand: (?P<points>\d+) points? -->")


def problem_sets(root: Path) -> list[str]:
    """Return the names of the sets, "01_attention" and so on, in order.

    Raises FileNotFoundError when there is none.
    """
    found = sorted(
        path.stem
        for path in (root / SOURCES).glob("*/*.ipynb")
        if path.stem == path.parent.name
    )
    if not found:
        raise FileNotFoundError(
            f"{root / SOURCES} holds no SET/SET.ipynb: the sets with solutions are in "
            "the course's repository, not in an installed package; run the command in "
            "its folder, or name that folder with --root"
        )
    return found


def find(name: str, root: Path) -> str:
    """Return the set called `name`: 01, attention or 01_attention.

    Raises FileNotFoundError when there is none.
    """
    known = problem_sets(root)
    for one in known:
        if matches_name(name, one):
            return one
    raise FileNotFoundError(f"no set {name!r}: there are {', '.join(known)}")


def place(root: Path, folder: str, name: str) -> Path:
    """Return the path of a set within one of the two folders."""
    return root / folder / name / f"{name}.ipynb"


def release(root: Path, sets: list[str]) -> list[str]:
    """Update sources and exercises; return what changed, one line each."""
    done = []
    for path, text in _changed(root, sets):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, text)
        done.append(f"wrote {path.relative_to(root)}")
    return done


def _changed(root: Path, sets: list[str]) -> Iterator[tuple[Path, str]]:
    """Yield each file of the sets that differs from its source, with its new text."""
    made = exercises({name: source(place(root, SOURCES, name)) for name in sets})
    for name, texts in made.items():
        for folder, text in zip((SOURCES, EXERCISES), texts, strict=True):
            path = place(root, folder, name)
            if _text(path) != text:
                yield path, text


def differences(root: Path, sets: list[str], orphans: bool = True) -> list[str]:
    """Return which sets differ from their source; empty if none does."""
    found = [
        f"{path.relative_to(root)} is not what gpt2-lesson release {path.stem[:2]} "
        "makes"
        for path, _ in _changed(root, sets)
    ]
    if orphans:
        found += [
            f"{path.relative_to(root)} has no set in {SOURCES}"
            for path in sorted((root / EXERCISES).glob("*/*.ipynb"))
            if path.stem not in sets
        ]
    return found


def source(path: Path) -> NotebookNode:
    """Return the set at `path` in normal form: no outputs, labelled for nbgrader.

    Raises ValueError, naming the cell, for what nbgrader would get wrong.
    """
    notebook = read(path)
    notebook.cells = [part for cell in notebook.cells for part in at_headings(cell)]
    name_answers(notebook)
    notebook = normalise(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)
        label(cell, path.name)
    return notebook


def at_headings(cell: NotebookNode) -> list[NotebookNode]:
    """Return a text cell split before each heading of an exercise; others unchanged."""
    parts = re.split(r"\n+(?=## \d\d\.\d)", cell.source.strip("\n"))
    if cell.cell_type != "markdown" or len(parts) == 1:
        return [cell]
    rest = [nbformat.v4.new_markdown_cell(part) for part in parts[1:]]
    cell.source = parts[0]
    return [cell, *rest]


def name_answers(notebook: NotebookNode) -> None:
    """Name answers and checks after what is asked for: attention, attention-check.

    Cells with readable ids keep them; no name holds a word of a solution.
    """
    asked = {
        match["answer"]
        for cell in notebook.cells
        if (match := CHECK.match(last_line(cell)))
    }
    taken = {cell.id for cell in notebook.cells if is_readable(cell.get("id", ""))}
    for cell in notebook.cells:
        check = CHECK.match(last_line(cell))
        if is_readable(cell.get("id", "")) or not (check or is_answer(cell)):
            continue
        if check:
            name = f"{check['answer']}-check"
        else:
            names = bound_names(cell.source) if cell.cell_type == "code" else []
            names.sort(key=lambda name: name not in asked)
            name = names[0] if names else "in-words"
        name = wanted = name.replace("_", "-").strip("-").lower()
        for number in range(2, len(notebook.cells) + 2):
            if name not in taken:
                break
            name = f"{wanted}-{number}"
        cell["id"] = name
        taken.add(name)


def bound_names(code: str) -> list[str]:
    """Return the names that code binds at its top level, in their order.

    Those of imports, and those that begin with an underscore, are left out.
    """
    names: list[str] = []
    for node in ast.parse(code).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names += [
                part.id
                for target in targets
                for part in ast.walk(target)
                if isinstance(part, ast.Name)
            ]
    return list(dict.fromkeys(name for name in names if not name.startswith("_")))


def label(cell: NotebookNode, where: str = "") -> None:
    """Set nbgrader's metadata of a cell according to its text.

    Raises ValueError for a check that gives no points, or one in an answer's cell.
    """
    cell.metadata.pop("nbgrader", None)
    try:
        check_regions(cell.source)
    except ValueError as error:
        raise ValueError(f"{where}, cell #{cell.id}: {error}") from None
    grade, by_hand = CHECK.match(last_line(cell)), BY_HAND.match(cell.source)
    answer = is_answer(cell)
    if cell.cell_type == "code":
        if ".points(" in cell.source and not grade:
            raise ValueError(
                f"{where}, cell #{cell.id}: the last line must be "
                f"checks.NAME(ANSWER).points(N), and it is {last_line(cell)!r}"
            )
        if grade and answer:
            raise ValueError(f"{where}, cell #{cell.id}: a check needs its own cell")
    elif answer != bool(by_hand):
        raise ValueError(
            f"{where}, cell #{cell.id}: an answer in text needs both "
            "<!-- by hand: N points --> and ### BEGIN SOLUTION"
        )
    points = grade or by_hand
    if answer or points:
        cell.metadata["nbgrader"] = {
            "grade": bool(points),
            "grade_id": cell.id,
            "locked": bool(grade),
            "schema_version": 3,
            "solution": answer,
            "task": False,
            **({"points": int(points["points"])} if points else {}),
        }


def check_regions(text: str) -> None:
    """Raise ValueError unless solutions begin, have at most one INSTEAD, and end."""
    marks = re.findall(r"### *(BEGIN SOLUTION|INSTEAD|END SOLUTION)", text)
    order = "".join(mark[0] for mark in marks)  # BIEBE
    lines = re.findall(
        r"^[ \t]*### (?:BEGIN SOLUTION|INSTEAD|END SOLUTION)[ \t]*$", text, re.M
    )
    if not re.fullmatch("(BI?E)*", order) or len(lines) != len(marks):
        raise ValueError(
            "a solution needs the lines ### BEGIN SOLUTION and "
            "### END SOLUTION, and may have one ### INSTEAD between"
        )


def is_answer(cell: NotebookNode) -> bool:
    """Return whether a cell holds a solution."""
    return "### BEGIN SOLUTION" in cell.source


def exercises(sources: dict[str, NotebookNode]) -> dict[str, tuple[str, str]]:
    """Return the source and the learners' notebook of each set, as text.

    nbgrader works in a temporary folder. Raises ValueError for what it refuses, and
    ImportError if it is not installed.
    """
    with scratch_folder("release") as folder:
        texts = {
            name: nbformat.writes(notebook) + "\n" for name, notebook in sources.items()
        }
        for name, text in texts.items():
            path = place(folder, SOURCES, name)
            path.parent.mkdir(parents=True)
            path.write_text(text, encoding="utf-8", newline="\n")
        shutil.copy(ROOT / "nbgrader_config.py", folder)
        return {name: (text, _released(folder, name)) for name, text in texts.items()}


def _released(root: Path, name: str) -> str:
    """Return the notebook that nbgrader makes of a set in `root`, as text."""
    try:
        from nbgrader.converters import GenerateAssignment
        from nbgrader.converters.base import NbGraderException
        from nbgrader.coursedir import CourseDirectory
        from traitlets.config import PyFileConfigLoader
    except ImportError as error:
        raise ImportError(
            f"{error}: the classroom's tools are an extra, pip install -e .[classroom]"
        ) from error
    config = PyFileConfigLoader("nbgrader_config.py", path=str(root)).load_config()
    config.SaveCells.enabled = False  # no gradebook
    course = CourseDirectory(config=config, assignment_id=name)
    complaints = _Complaints()
    converter = GenerateAssignment(
        coursedir=course,
        config=config,
        no_database=True,
        force=True,
        log=complaints.logger,
    )
    try:
        converter.start()
    except NbGraderException as error:
        raise ValueError(f"{name}: {complaints.reason or error}") from None
    made = _normal_exercise(read(place(root, EXERCISES, name)))
    return nbformat.writes(made) + "\n"  # as nbgrader ends it


class _Complaints(logging.Handler):
    """Keeps the reason for nbgrader's last error, which its exception leaves out."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.reason = ""
        self.logger = logging.Logger("nbgrader")
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        lines = record.getMessage().strip().splitlines()
        if "Traceback" in lines[0]:
            self.reason = lines[-1]


def _normal_exercise(notebook: NotebookNode) -> NotebookNode:
    """Return an exercise in normal form; cells that nbgrader locked stay locked."""
    closed = {
        cell.id: {
            key: value
            for key, value in cell.metadata.items()
            if key in ("deletable", "editable")
        }
        for cell in notebook.cells
    }
    normal = normalise(notebook)
    for cell in normal.cells:
        cell.metadata = nbformat.from_dict(closed[cell.id] | cell.metadata)
    return normal


def last_line(cell: NotebookNode) -> str:
    """Return the last line of a code cell, "" for text."""
    return (cell.source.strip().splitlines() or [""])[-1] * (cell.cell_type == "code")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
