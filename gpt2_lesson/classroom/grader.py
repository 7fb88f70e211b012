"""One student's results: ask the process in the sandbox, compare here.

The functions are tested in one sandbox, where the lesson's own module is withheld;
the values come from another sandbox, which has the module. A process that dies is
started again without the cell that killed it, so that the rest still counts.
"""

import hmac
import io
import pickle
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import Any

from gpt2_lesson import checks
from gpt2_lesson.checks.answers import judge
from gpt2_lesson.checks.diagnosis import diagnose
from gpt2_lesson.checks.exercise import Answer
from gpt2_lesson.checks.probing import Observation, Probe
from gpt2_lesson.checks.report import Report
from gpt2_lesson.classroom.null_checks import WITHHELD
from gpt2_lesson.classroom.protocol import ProtocolError, Reader
from gpt2_lesson.classroom.sandbox import (
    IsolationError,
    Sandbox,
    SandboxClosed,
    SandboxProcess,
)
from gpt2_lesson.classroom.submissions import Cell, Exercise, Release, Submission
from gpt2_lesson.classroom.worker import REQUEST

PACKAGE = Path(__file__).resolve().parents[1]
# The parts of the package that exist in the sandbox, besides lessons and top modules.
ALWAYS = [
    "classroom/__init__.py",
    "classroom/protocol.py",
    "classroom/worker.py",
    "classroom/null_checks.py",
    "checks/probing.py",
    "checks/fakes",
    "corpora",
    "plots",
]
WORK = "from gpt2_lesson.classroom.worker import main; main(channel)"
MOST_PROCESSES = 6  # of a submission in each of its two runs
IN_THE_SANDBOX = ("gpt2_lesson.checks.probing", "gpt2_lesson.checks.fakes")
GRACE = 5.0  # seconds beyond the worker's own limit
JUDGING = 120.0  # seconds, for everything computed here


@dataclass
class Result:
    """The result of one exercise; `text` and `html` are the report, or ""."""

    grade_id: str
    most: float
    points: float | None  # None: to be graded by hand
    text: str = ""
    html: str = ""


@dataclass
class Marks:
    """The results of one submission, and what happened."""

    results: list[Result] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    output: str = ""
    seconds: float = 0.0


# ------------------------------------------------------------------ the folder


@contextmanager
def course_folders(
    lessons: list[str], own: int, scratch: Path
) -> Iterator[dict[str, Path]]:
    """Yield the folders to import from: for "function", and for "answer".

    `lessons` are the modules in order; those from number `own` on are withheld while
    functions are tested.
    """
    with tempfile.TemporaryDirectory(prefix="course-", dir=scratch) as folder:
        Path(folder).chmod(0o755)
        folders = {kind: Path(folder, kind) for kind in ("function", "answer")}
        files = [f"{lesson}.py" for lesson in lessons]
        shared = [path.name for path in PACKAGE.glob("*.py") if path.name not in files]
        _copy(folders["function"], [*ALWAYS, *shared, *files[:own]])
        _copy(folders["answer"], [*ALWAYS, *shared, "widgets", *files])
        yield folders


def _copy(folder: Path, parts: list[str]) -> None:
    """Copy parts of the package, readable by all; `checks/__init__.py` is empty."""
    package = folder / "gpt2_lesson"
    for part in parts:
        target = package / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if (PACKAGE / part).is_dir():
            shutil.copytree(
                PACKAGE / part, target, ignore=shutil.ignore_patterns("__pycache__")
            )
        elif (PACKAGE / part).exists():
            shutil.copyfile(PACKAGE / part, target)
    (package / "checks" / "__init__.py").write_text(
        '"""The checks."""\n', encoding="utf-8"
    )
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


# ------------------------------------------------------------------ one submission


@dataclass
class Marker:
    """What is needed to grade any submission of a release.

    `seconds` is the limit for one cell or one function; a submission gets ten times
    that. `secret` decides the seed of the probes, which no student knows.
    """

    release: Release
    sandbox: Sandbox
    folders: dict[str, Path]
    withheld: list[str]
    secret: bytes
    seconds: float = 60.0

    @cached_property
    def constants(self) -> dict[str, dict[str, object]]:
        """Return what withheld lessons still contain: constants that the set uses.

        The cells of the set import them, so they are not answers, for instance
        tokenizer.GPT2_SPLIT_PATTERN.
        """
        found: dict[str, dict[str, object]] = {}
        for module, name in self.release.constants:
            value = getattr(import_module(module), name)
            with suppress(ProbeError):  # of a class of the course: stays withheld
                _pickled({name: value})
                found.setdefault(module, {})[name] = value
        return found

    def mark(self, submission: Submission) -> Marks:
        """Return the results of a submission, whatever it does."""
        began, marks = time.monotonic(), Marks()
        found: dict[str, Result] = {}
        for kind in ("function", "answer"):
            if any(one.kind == kind for one in self.release.exercises):
                run = _Run(self, submission, kind, began + 10 * self.seconds, marks)
                with _at_most(10 * self.seconds + JUDGING):
                    found |= run.results()
        for exercise in self.release.exercises:
            nothing = Result(
                exercise.grade_id,
                exercise.points,
                None if exercise.kind == "by hand" else 0,
            )
            marks.results.append(found.get(exercise.grade_id, nothing))
        marks.seconds = time.monotonic() - began
        return marks

    def seed(self, exercise: Exercise) -> int:
        """Return the seed of an exercise's probes: the same for the whole class."""
        digest = hmac.digest(self.secret, exercise.name.encode(), "sha256")
        return int.from_bytes(digest[:7], "big")


def try_grading(marker: Marker) -> None:
    """Grade a right and a wrong answer of each kind, like those of a student.

    Raises IsolationError unless the right ones get their points, and only they.
    """
    function, answer = (checks.all_exercises()[name] for name in ("attention", "01.1"))
    source = f"""import math
import torch
{function.solution}
def wrong(q, k, v):
    return v
value, wrong_value = {answer.expected!r}, None"""
    cells = [
        Cell(source),
        *(
            Cell("", variable, "graded", Exercise(variable, kind, 1, name, variable))
            for kind, name, variable in (
                ("function", "attention", "attention"),
                ("function", "attention", "wrong"),
                ("answer", "01.1", "value"),
                ("answer", "01.1", "wrong_value"),
            )
        ),
    ]
    marker = replace(
        marker,
        release=Release("selftest", cells, [], b""),
        seconds=max(60, marker.seconds),
    )
    marks = marker.mark(Submission("selftest", cells=cells))
    points = {one.grade_id: one.points for one in marks.results}
    if points != {"attention": 1, "wrong": 0, "value": 1, "wrong_value": 0}:
        reasons = [*marks.notes, *(one.text for one in marks.results if not one.points)]
        raise IsolationError(
            "the self-test failed, so nobody was graded: expected 1 point for "
            f"attention and for value and 0 for the wrong ones, came {points}: "
            f"{'; '.join(reasons)[:1000]} {marks.output[-1000:]}"
        )


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Raise TimeoutError after so many seconds: no result may stop the class.

    Works in the main thread of a process, where all submissions are graded.
    """

    def stop(*_: object) -> None:
        raise TimeoutError("took too long to judge")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 30.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _Run:
    """A walk through the cells in one kind of sandbox, with its restarts."""

    def __init__(
        self,
        marker: Marker,
        submission: Submission,
        kind: str,
        last: float,
        marks: Marks,
    ) -> None:
        self.marker, self.kind, self.last, self.marks = marker, kind, last, marks
        self.late = [one for one in submission.late if one.kind == kind]
        ends = {
            one: max(
                [
                    i
                    for i, cell in enumerate(submission.cells)
                    if cell.exercise and cell.exercise.kind == one
                ],
                default=-1,
            )
            for one in ("function", "answer")
        }
        # Cells after the last exercise need not run.
        self.cells = submission.cells[: None if self.late else ends[kind] + 1]
        # Errors of cells are reported from the sandbox that has the lessons.
        self.told = ends["answer"] if kind == "function" else -1
        self.given = {cell.source.strip() for cell in marker.release.cells}
        self.bad: set[int] = set()  # cells that killed the process
        self.processes = 0

    def results(self) -> dict[str, Result]:
        """Return the results by grade_id, of all exercises of this kind."""
        found: dict[str, Result] = {}
        if not self.cells:
            return found
        with ExitStack() as stack:
            self.stack = stack
            self.talk: _Talk | None = None
            for i, cell in enumerate(self.cells):
                self.at = i
                if cell.exercise and cell.exercise.kind == self.kind:
                    found[cell.grade_id] = self.judged(cell.exercise)
                else:
                    self.ran(i, cell)
            self.at = len(self.cells)
            for exercise in self.late:
                found[exercise.grade_id] = self.judged(exercise)
            self.close()
        return found

    def opened(self) -> "_Talk":
        """Return the open process, in which the cells up to here have run.

        Raises SandboxClosed when too many have died, or the time is over.
        """
        while self.talk is None:
            if self.processes == MOST_PROCESSES:
                raise SandboxClosed("killed too many processes")
            if time.monotonic() > self.last:
                raise SandboxClosed("took too long in all")
            self.processes += 1
            marker = self.marker
            process = self.stack.enter_context(
                marker.sandbox.process(marker.folders[self.kind], WORK)
            )
            self.talk = _Talk(process, marker.seconds, self.last)
            withheld = marker.withheld if self.kind == "function" else []
            self.asked(do="hello", withheld=withheld, constants=marker.constants)
            for i, cell in enumerate(self.cells[: self.at]):
                self.ran(i, cell)
        return self.talk

    def close(self) -> None:
        """End the process, and all that runs in the sandbox."""
        if self.talk is not None:
            output = self.talk.process.output
            self.marks.output = output.decode("utf-8", "replace")[-2000:]
        self.stack.close()
        self.talk = None

    def ran(self, i: int, cell: Cell) -> None:
        """Run cell i in the open process; if that dies, the cell is not run again."""
        if (
            self.talk is None
            or i in self.bad
            or cell.exercise
            or (not cell.source.strip())
        ):
            return
        try:
            reply = self.talk.ask(do="run", source=cell.source, name=f"cell {i + 1}")
        except SandboxClosed as error:
            self.bad.add(i)
            self.close()
            self.note(f"cell {i + 1} {error}")
            return
        given = cell.source.strip() in self.given and WITHHELD in reply.get(
            "message", ""
        )  # a cell of the set uses the lesson
        if reply.get("error") and i > self.told and not given:
            self.note(
                f"cell {i + 1}, line {reply['line']}: {reply['error']}: "
                f"{reply['message']}"
            )

    def note(self, text: str) -> None:
        """Add a note, once, and not too many of them."""
        if text not in self.marks.notes and len(self.marks.notes) < 40:
            self.marks.notes.append(text)

    def judged(self, exercise: Exercise) -> Result:
        """Return the result of one exercise; no reply may break the grader."""
        check = checks.all_exercises()[exercise.name]
        try:
            self.opened()
            if isinstance(check, Answer):
                value = self.asked(do="value", name=exercise.variable).get("value")
                report = judge(check, value)
            else:
                run = _RemoteProbes(self, exercise)
                report = diagnose(check, run, self.marker.seed(exercise))
            return _result(exercise, report)
        except SandboxClosed as error:
            text = f"{exercise.name}: {error}"
        except ProbeError:
            raise
        except Exception as error:  # the reply broke the grader: no points
            text = f"{exercise.name}: can't be judged: {type(error).__name__}: {error}"
        self.note(text)
        return Result(exercise.grade_id, exercise.points, 0, text)

    def asked(self, **request: object) -> dict:
        """Return the reply to a request about a name. Raises SandboxClosed."""
        try:
            return self.opened().ask(**request)
        except SandboxClosed:
            self.close()
            raise


class _RemoteProbes:
    """Run probes on a function in the sandbox; a dead process counts as an error.

    The probes' names stay here, because they say how the input was made.
    """

    def __init__(self, run: _Run, exercise: Exercise) -> None:
        self.run, self.exercise, self.dead = run, exercise, ""

    def __call__(self, probe: Probe) -> Observation:
        if not self.dead:
            try:
                seen = _seen(
                    self.run.asked(
                        do="probe",
                        name=self.exercise.variable,
                        probe=replace(probe, name=""),
                    )
                )
            except SandboxClosed as error:
                self.dead = str(error)
                self.run.note(f"{self.exercise.name}: {error}")
            else:
                if seen.error == "TookTooLong":  # once is enough
                    self.dead = "took too long"
                    self.run.note(f"{self.exercise.name}: took too long")
                return seen
        return Observation(error="RuntimeError", message=f"the function {self.dead}")


def _seen(reply: dict) -> Observation:
    """Return the content of a reply, after checking it. Raises SandboxClosed."""
    if reply.get("error"):
        return Observation(
            error=_short(reply["error"]), message=_short(reply.get("message"))
        )
    parts = reply.get("seen")
    if not isinstance(parts, dict):
        raise SandboxClosed("sent no observation")
    changed = parts.get("changed")
    if (
        not isinstance(changed, tuple)
        or len(changed) > 20
        or not all(type(i) is int and 0 <= i < 20 for i in changed)
    ):
        raise SandboxClosed("sent no observation")
    return Observation(
        value=parts.get("value"),
        error=_short(parts.get("error")),
        message=_short(parts.get("message")),
        where=_short(parts.get("where")),
        changed=changed,
        repeats=parts.get("repeats") is True,
        written=parts.get("written") is True,
        drawn=parts.get("drawn") is True,
        printed=_short(parts.get("printed"), 2000),
    )


def _short(text: object, most: int = 400) -> str:
    """Return a received text, cut to a limit and made printable; "" for no text."""
    return clean(text[:most], lines=True) if isinstance(text, str) else ""


def clean(text: str, lines: bool = False) -> str:
    """Return text whose control characters and lone surrogates are escaped."""
    kept = "\n\t" if lines else ""
    text = "".join(
        c if c.isprintable() or c in kept else f"\\x{ord(c):02x}" for c in text
    )
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _result(exercise: Exercise, report: Report) -> Result:
    points = report.score(exercise.points)
    return Result(
        exercise.grade_id, exercise.points, points, str(report), report._repr_html_()
    )


class ProbeError(RuntimeError):
    """A probe needs something that is not in the sandbox: not the student's fault."""


class _Pickler(pickle.Pickler):
    """Pickles only what the worker can read and may see."""

    def reducer_override(self, thing: object) -> Any:
        if isinstance(thing, type | FunctionType):
            name = f"{thing.__module__}.{thing.__qualname__}"
            if name.startswith("gpt2_lesson") and not name.startswith(IN_THE_SANDBOX):
                raise ProbeError(
                    f"a probe needs {name}, which is not in the sandbox: "
                    "move it to gpt2_lesson/checks/fakes"
                )
        return NotImplemented


def _pickled(request: dict) -> bytes:
    """Return a request as bytes. Raises ProbeError."""
    out = io.BytesIO()
    try:
        _Pickler(out).dump(request)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ProbeError(f"a probe can't be sent: {error}") from None
    return out.getvalue()


@dataclass
class _Talk:
    """Requests to a process, and its replies, one at a time."""

    process: SandboxProcess
    seconds: float
    last: float
    number: int = 0
    reader: Reader = field(default_factory=Reader)
    waiting: list[dict] = field(default_factory=list)

    def ask(self, **request: object) -> dict:
        """Return the reply to a request. Raises SandboxClosed."""
        self.number += 1
        request |= {"number": self.number, "seconds": self.seconds}
        data = _pickled(request)
        deadline = min(self.last, time.monotonic() + self.seconds + GRACE)
        if self.number == 1:  # Python and torch have yet to start
            deadline += 60
        self.process.send(REQUEST.pack(len(data)) + data, deadline)
        try:
            while not self.waiting:
                self.waiting += self.reader.feed(self.process.receive(deadline))
        except ProtocolError as error:
            raise SandboxClosed(f"broke the rules: {error}") from None
        reply = self.waiting.pop(0)
        if self.waiting or reply.get("number") != self.number:
            raise SandboxClosed("broke the rules: an answer to no question")
        if reply.get("error") is not None:
            reply |= {
                "error": _short(reply["error"], 60),
                "line": reply.get("line"),
                "message": _short(reply.get("message")),
            }
            if not isinstance(reply["line"], int):
                reply["line"] = 0
        return reply
