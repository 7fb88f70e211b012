"""The exercises of a release, and submissions, which are never trusted or run here."""

import ast
import json
import os
import re
import stat
from dataclasses import dataclass, field, replace
from pathlib import Path

MOST_BYTES = 20_000_000  # of a notebook, with its pictures
TITLE = re.compile(r"^# +(.+?) *$", re.M)
HEADING = re.compile(r"^## +(\d\d\.\d+ .+?) *$", re.M)  # 02.4 Who leaks?
MOST_CELLS, MOST_SOURCE = 1000, 200_000
FORMS = (
    "one line, `checks.NAME(VARIABLE).points(N)` or "
    '`checks.answer("07.1", VARIABLE).points(N)`'
)


class SubmissionError(ValueError):
    """A student's file that can't be read as a notebook; the text says why."""


@dataclass(frozen=True)
class Exercise:
    """A graded cell of a release: a check, the name that it grades, and the points.

    `kind` is "function", "answer" or "by hand"; `name` is the check's; `title` is the
    heading above, "02.4 Who leaks?"; `given` is the text before an answer.
    """

    grade_id: str
    kind: str
    points: float
    name: str = ""
    variable: str = ""
    title: str = ""
    given: str = ""


@dataclass(frozen=True)
class Cell:
    """A code cell: its source, nbgrader's id ("" for none), and its kind.

    `kind` is "free" (the student's), "locked" (the release's) or "graded".
    """

    source: str
    grade_id: str = ""
    kind: str = "free"
    exercise: Exercise | None = None


@dataclass(frozen=True)
class Release:
    """A problem set as it was released."""

    name: str
    cells: list[Cell]
    by_hand: list[Exercise]
    raw: bytes
    title: str = ""

    @property
    def constants(self) -> list[tuple[str, str]]:
        """Return (module, NAME) of the constants that the set takes from lessons."""
        nodes = [node for cell in self.cells for node in _nodes(cell.source)]
        return [
            (node.module, alias.name)
            for node in nodes
            if isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.startswith("gpt2_lesson.")
            for alias in node.names
            if alias.name.isupper()
        ]

    @property
    def exercises(self) -> list[Exercise]:
        """Return all exercises, those graded by hand last."""
        return [cell.exercise for cell in self.cells if cell.exercise] + self.by_hand


@dataclass
class Submission:
    """One student's notebook: the cells to run, in order, and warnings about it.

    `late` has the exercises whose cell was not found: graded at the end, by name.
    """

    student: str
    raw: bytes = b""
    cells: list[Cell] = field(default_factory=list)
    late: list[Exercise] = field(default_factory=list)
    written: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def _nodes(source: str) -> list[ast.AST]:
    try:
        return list(ast.walk(ast.parse(source)))
    except SyntaxError:
        return []


# ------------------------------------------------------------------ the release


def read_release(path: Path) -> Release:
    """Return the release at `path`. Raises ValueError for one that can't be graded."""
    raw = path.read_bytes()
    cells, by_hand, seen, name, title = [], [], set(), "", ""
    for cell in _cells(raw):
        data, source = _nbgrader(cell), _source(cell)
        if cell["cell_type"] == "markdown":
            name = name or (TITLE.findall(source) or [""])[0]
            title = (HEADING.findall(source) or [title])[-1]
        grade_id = data.get("grade_id", "")
        if grade_id and grade_id in seen:
            raise ValueError(f"{path}: two cells have the grade_id {grade_id!r}")
        seen.add(grade_id)
        if data.get("grade") and data.get("solution"):
            by_hand.append(
                Exercise(
                    grade_id, "by hand", _points(path, data), title=title, given=source
                )
            )
        if cell["cell_type"] != "code":
            continue
        if data.get("grade") and not data.get("solution"):
            exercise = _exercise(path, source, grade_id, _points(path, data))
            exercise = replace(exercise, title=title)
            cells.append(Cell(source, grade_id, "graded", exercise))
        else:
            fixed = data.get("locked") and not data.get("solution")
            cells.append(Cell(source, grade_id, "locked" if fixed else "free"))
    return Release(path.stem, cells, by_hand, raw, name or path.stem)


def _points(path: Path, data: dict) -> float:
    points = data.get("points")
    if isinstance(points, bool) or not isinstance(points, int | float) or points < 0:
        raise ValueError(
            f"{path}: the cell {data.get('grade_id')!r} has the points "
            f"{points!r}, expected a number from 0 on"
        )
    return points


def _exercise(path: Path, source: str, grade_id: str, points: float) -> Exercise:
    """Return the exercise of a graded cell. Raises ValueError for an invalid cell."""
    wrong = ValueError(f"{path}: the graded cell {grade_id!r} must be {FORMS}")
    try:
        lines = ast.parse(source).body
    except (SyntaxError, ValueError):
        raise wrong from None
    match lines:
        case [
            ast.Expr(ast.Call(ast.Attribute(check, "points"), [ast.Constant(most)], []))
        ]:
            pass
        case _:
            raise wrong
    match check:
        case ast.Call(
            ast.Attribute(ast.Name("checks"), "answer"),
            [ast.Constant(str(name)), ast.Name(variable)],
            [],
        ):
            kind = "answer"
        case ast.Call(
            ast.Attribute(ast.Name("checks"), name), [ast.Name(variable)], []
        ) if name != "answer":
            kind = "function"
        case _:
            raise wrong
    if most != points:
        raise ValueError(
            f"{path}: the cell {grade_id!r} gives {most!r} points, but "
            f"its nbgrader metadata say {points}"
        )
    return Exercise(grade_id, kind, points, name, variable)


# ------------------------------------------------------------------ a submission


def read_submission(folder: Path, student: str, release: Release) -> Submission:
    """Return what `student` handed in under `folder`/STUDENT/SET/SET.ipynb.

    Any problem with it becomes a warning; an unusable file has no cells.
    """
    submission = Submission(student)
    try:
        submission.raw = _read(folder, student, release.name, submission.warnings)
        cells = _cells(submission.raw)
    except SubmissionError as error:
        submission.warnings.append(str(error))
        return submission
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    texts = {
        _nbgrader(cell).get("grade_id") or str(cell.get("id")): _source(cell)
        for cell in cells
    }
    submission.written = {
        one.grade_id: texts[one.grade_id][:MOST_SOURCE]
        for one in release.by_hand
        if one.grade_id in texts and texts[one.grade_id].strip() != one.given.strip()
    }
    submission.cells = _matched(code, release, submission.warnings)
    found = {cell.grade_id for cell in submission.cells if cell.exercise}
    submission.late = [
        cell.exercise
        for cell in release.cells
        if cell.exercise and cell.grade_id not in found
    ]
    if submission.late:
        names = ", ".join(one.grade_id for one in submission.late)
        submission.warnings.append(
            f"graded cells missing, judged at the end by the functions' names: {names}"
        )
    return submission


def _read(folder: Path, student: str, name: str, warnings: list[str]) -> bytes:
    """Return the bytes of the notebook. Raises SubmissionError for anything odd."""
    try:
        return _found(folder / student, name, warnings)
    except OSError as error:
        raise SubmissionError(f"can't be read: {error.strerror}") from None


def _found(path: Path, name: str, warnings: list[str]) -> bytes:
    """Return the bytes of the notebook in a student's folder, whatever it is called."""
    for part in ("", name, f"{name}.ipynb"):
        path = path / part if part else path
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            if part.endswith(".ipynb"):
                return _other_name(path, warnings)
            raise SubmissionError("nothing handed in") from None
        if stat.S_ISLNK(mode):
            raise SubmissionError(f"{part or 'the folder'} is a link: refused")
    return _bytes(path)


def _other_name(path: Path, warnings: list[str]) -> bytes:
    """Return the only notebook of the folder, if it has another name."""
    found = sorted(path.parent.glob("*.ipynb"))
    if len(found) != 1:
        raise SubmissionError(f"no {path.name}, and {len(found)} other notebooks")
    warnings.append(f"the file is called {found[0].name!r}, expected {path.name}")
    return _bytes(found[0])


def _bytes(path: Path) -> bytes:
    """Return the bytes of a regular file, without following links or waiting."""

    def without_links(path: str, flags: int) -> int:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)

    with open(path, "rb", opener=without_links) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
            raise SubmissionError("no regular file of its own: refused")
        raw = file.read(MOST_BYTES + 1)
    if len(raw) > MOST_BYTES:
        raise SubmissionError(f"larger than {MOST_BYTES // 10**6} MB: not read")
    return raw


def _cells(raw: bytes) -> list[dict]:
    """Return a notebook's cells, dicts with a cell_type. Raises SubmissionError."""
    try:
        notebook = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise SubmissionError("not UTF-8: not read") from None
    except (ValueError, RecursionError) as error:
        raise SubmissionError(f"not JSON ({type(error).__name__}): not read") from None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list) or not all(
        isinstance(cell, dict) and isinstance(cell.get("cell_type"), str)
        for cell in cells
    ):
        raise SubmissionError("JSON, but no notebook (version 4)")
    if len(cells) > MOST_CELLS:
        raise SubmissionError(f"{len(cells)} cells, at most {MOST_CELLS} are read")
    return cells


def _source(cell: dict) -> str:
    source = cell.get("source", "")
    if isinstance(source, list):
        source = "".join(part for part in source if isinstance(part, str))
    source = source if isinstance(source, str) else ""
    return source[:MOST_SOURCE].encode("utf-8", "replace").decode("utf-8")


def _nbgrader(cell: dict) -> dict:
    """Return a cell's nbgrader metadata, {} if missing or invalid."""
    metadata = cell.get("metadata")
    data = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    if isinstance(data, dict) and isinstance(data.get("grade_id", ""), str):
        return data
    return {}


def _matched(code: list[dict], release: Release, warnings: list[str]) -> list[Cell]:
    """Return the cells to run; graded and locked ones are taken from the release."""
    known = {cell.grade_id: cell for cell in release.cells if cell.grade_id}
    ids = [_nbgrader(cell).get("grade_id", "") for cell in code]
    if known and not any(one in known for one in ids):
        if len(code) == len(release.cells):
            warnings.append("nbgrader's metadata are gone: cells taken by their order")
            ids = [cell.grade_id for cell in release.cells]
        else:
            warnings.append("nbgrader's metadata are gone, and so is the cells' order")
    cells, last = [], {one: i for i, one in enumerate(ids)}
    for i, (cell, one) in enumerate(zip(code, ids, strict=True)):
        original, source = known.get(one), _source(cell)
        if original is None or original.kind == "free":
            cells.append(Cell(source, one if original else ""))
            continue
        if source.strip() != original.source.strip():
            warnings.append(f"the cell {one} was edited: the released one counts")
        if i != last[one]:
            warnings.append(f"the cell {one} is there more than once")
            if original.exercise:
                continue
        cells.append(original)
    return cells
