"""Grade a class, each notebook in a sandbox without answers."""

import hashlib
import json
import os
import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path

import torch
from tqdm import tqdm

from gpt2_lesson import checks
from gpt2_lesson.authoring.notebooks import NOTEBOOKS, lessons, matches_name, word
from gpt2_lesson.checks.exercise import Answer, Exercise
from gpt2_lesson.classroom import feedback
from gpt2_lesson.classroom.grader import (
    PACKAGE,
    Marker,
    ProbeError,
    clean,
    course_folders,
    try_grading,
)
from gpt2_lesson.classroom.sandbox import Sandbox, open_sandbox
from gpt2_lesson.classroom.submissions import (
    Release,
    Submission,
    read_release,
    read_submission,
)
from gpt2_lesson.files import cache_folder, scratch_folder

WARNING = """\
WARNING: --trust-submissions: the students' code runs as you. It can read your files,
the answers and the other submissions, write anything you can, and use the network.
Every row of the table says so. Use it for code that you have read."""


@dataclass(frozen=True)
class Options:
    """How to grade. `partial` is the fraction of the points for one known mistake.

    `time_limit` is seconds for one cell or function; a submission gets ten times that.
    Without a `seed`, the seed of the probes is secret.
    """

    out: Path
    submitted: Path
    notebooks: Path = NOTEBOOKS
    jobs: int = 2
    partial: float = 0.0
    mode: str = "public"
    time_limit: float = 60.0
    seed: int | None = None
    trust_submissions: bool = False

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise ValueError(f"--jobs is {self.jobs}, expected 1 or more")
        if not 0 <= self.partial <= 1:
            raise ValueError(
                f"--partial is {self.partial}, expected a fraction from 0 to 1"
            )
        if not self.time_limit > 0:
            raise ValueError(
                f"--time-limit is {self.time_limit}, expected seconds above 0"
            )


def grade_class(name: str, options: Options) -> None:
    """Grade the problem set called `name`, and write the table and the pages."""
    release = find_release(name, options.notebooks)
    path = options.out / f"grades_{release.name}.csv"
    given = feedback.given_by_hand(path, release)
    students = find_students(options.submitted)
    modules = [word(path) for path in lessons(NOTEBOOKS)]
    modules = [name for name in modules if (PACKAGE / f"{name}.py").exists()]
    own = _own(release.name, modules)
    secret = (
        secrets.token_bytes() if options.seed is None else str(options.seed).encode()
    )
    with (
        _private_files(),
        scratch_folder("grade") as scratch,
        course_folders(modules, own, scratch) as folders,
    ):
        scratch.chmod(0o755)
        sandbox = _sandbox(options, scratch)
        marker = Marker(
            release, sandbox, folders, modules[own:], secret, options.time_limit
        )
        job = _Job(marker, options, given)
        if all(map(job.is_graded, students)):  # what changed are points by hand
            kept = [job.grade(student) for student in students]
        else:
            try_grading(marker)
            kept = _all(job, students, options.jobs)
        feedback.write(path, feedback.table(kept, release))
        for student in students:
            feedback.mark_read(job.results(student))
    _summary(kept, release, path)


@contextmanager
def _private_files() -> Iterator[None]:
    """Give only the teacher access to what is written."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def find_release(name: str, notebooks: Path) -> Release:
    """Return the released set, or its source if there is no release.

    Raises FileNotFoundError, and ValueError for a set that can't be graded.
    """
    path = _find(name, notebooks)
    release = read_release(path)
    if not release.exercises:
        raise ValueError(f"{path} has no graded cells")
    known = checks.all_exercises()
    for one in release.exercises:
        kind = Answer if one.kind == "answer" else Exercise
        if one.kind != "by hand" and not isinstance(known.get(one.name), kind):
            raise ValueError(
                f"{path}: the cell {one.grade_id!r} asks for the check "
                f"{one.name!r}, which does not exist"
            )
    return release


def _find(name: str, notebooks: Path) -> Path:
    """Return the file of the set called `name`. Raises FileNotFoundError."""
    found: dict[str, Path] = {}
    for folder in ("exercises", "solutions"):
        for path in sorted((notebooks / folder).glob("*/*.ipynb")):
            if path.stem == path.parent.name:
                found.setdefault(path.stem, path)
    for one, path in found.items():
        if matches_name(name, one):
            return path
    raise FileNotFoundError(
        f"no set {name!r} in {notebooks}: there are {', '.join(found) or 'none'}"
    )


def find_students(submitted: Path) -> list[str]:
    """Return the names of the students' folders, sorted. Raises FileNotFoundError."""
    if not submitted.is_dir():
        raise FileNotFoundError(
            f"no folder {submitted}: the submissions lie in "
            "STUDENT/SET/SET.ipynb within it"
        )
    names = sorted(
        path.name
        for path in submitted.iterdir()
        if not path.name.startswith(".") and (path.is_symlink() or path.is_dir())
    )
    if not names:
        raise FileNotFoundError(f"{submitted} holds no student's folder")
    return names


def _own(name: str, modules: list[str]) -> int:
    """Return how many lessons come before the set: 01_attention has none."""
    number = name[:2]
    if not number.isdigit():
        return 0
    earlier = [word(path) for path in lessons(NOTEBOOKS) if path.name[:2] < number]
    return sum(module in earlier for module in modules)


def _sandbox(options: Options, scratch: Path) -> Sandbox:
    """Return what creates sandboxes. Raises IsolationError, unless all is trusted."""
    downloads = cache_folder().resolve()
    cache = downloads if downloads.is_dir() else None
    if options.trust_submissions:
        print(WARNING, file=sys.stderr)
        return Sandbox("", cache=cache, scratch=scratch)
    hidden = {
        PACKAGE.parent,
        PACKAGE,
        options.out,
        options.submitted,
        options.notebooks,
    }
    return open_sandbox(
        tuple(sorted(path.resolve() for path in hidden)), cache, scratch
    )


def _course_digest() -> str:
    """Return a digest of the grading program and its folder."""
    digest = hashlib.sha256(f"{PACKAGE} {sys.version} {torch.__version__}".encode())
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(f"{path} {path.stat().st_size} ".encode() + path.read_bytes())
    return digest.hexdigest()


# ------------------------------------------------------------------ the class


class _Job:
    """All that a process needs to grade any student; it is sent to each once."""

    def __init__(
        self, marker: Marker, options: Options, given: dict[str, dict[str, float]]
    ) -> None:
        self.marker, self.options, self.given = marker, options, given
        self.course = _course_digest()

    def key(self, raw: bytes, warnings: list[str]) -> str:
        """Return a digest of everything that the grades depend on."""
        options = self.options
        settings = [
            self.course,
            options.partial,
            options.mode,
            options.seed,
            self.marker.sandbox.mode,
            self.marker.seconds,
            warnings,
            hashlib.sha256(self.marker.release.raw).hexdigest(),
        ]
        digest = hashlib.sha256(json.dumps(settings).encode())
        digest.update(raw)
        return digest.hexdigest()

    def results(self, student: str) -> Path:
        """Return the file with the stored result of a student."""
        name = f"{self.marker.release.name}.json"
        return self.options.out / "results" / student / name

    def page(self, student: str) -> Path:
        """Return the file of a student's page."""
        name = self.marker.release.name
        return self.options.out / "feedback" / student / name / f"{name}.html"

    def found(self, student: str) -> tuple[Submission, str, dict | None]:
        """Return the submission, its key, and the stored result, of whatever key."""
        release = self.marker.release
        submission = read_submission(self.options.submitted, student, release)
        key = self.key(submission.raw, submission.warnings)
        return submission, key, feedback.read(self.results(student))

    def is_graded(self, student: str) -> bool:
        """Return whether the stored result is that of the submission as it is now."""
        try:
            _, key, before = self.found(student)
        except Exception:  # that student's process will say what is wrong
            return False
        return before is not None and before["key"] == key

    def grade(self, student: str) -> dict:
        """Return the result of a student; no submission can stop the others."""
        try:
            return self._grade(student)
        except ProbeError:
            raise
        except Exception as error:
            return self.broken(
                student,
                f"can't be graded, look at it by hand: {type(error).__name__}: {error}",
            )

    def _grade(self, student: str) -> dict:
        """Return the result of a student, graded now or before, and store it."""
        release = self.marker.release
        submission, key, before = self.found(student)
        if before is not None and before["key"] == key:
            kept = before
        else:
            checks.settings.partial = self.options.partial
            checks.settings.mode = self.options.mode
            marks = self.marker.mark(submission)
            isolated = bool(self.marker.sandbox.mode)
            kept = feedback.record(submission, marks, release, key, isolated)
            kept["read"] = before["read"] if before else kept["written"]
            feedback.write(self.results(student), json.dumps(kept, indent=1))
        kept = feedback.with_points(kept, self.given.get(feedback.cell(student), {}))
        feedback.write(self.page(student), feedback.page(kept))
        return kept

    def broken(self, student: str, reason: str) -> dict:
        """Return the result of a student who could not be graded; write the page."""
        submission = Submission(student, warnings=[reason])
        kept = feedback.record(
            submission,
            self.marker.mark(submission),
            self.marker.release,
            "",
            bool(self.marker.sandbox.mode),
        )
        kept |= {"read": kept["written"]}
        kept = feedback.with_points(kept, self.given.get(feedback.cell(student), {}))
        with suppress(OSError):  # writing the page may be what failed
            feedback.write(self.page(student), feedback.page(kept))
        return kept


_job: _Job | None = None
_grading = False


def _begin(job: _Job) -> None:
    """Store the job; stop at once, leaving no sandbox, when the teacher stops."""
    global _job
    _job = job
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _stop(*_: object) -> None:
    """Stop grading the current student, close its sandbox, and take no other one.

    A SystemExit could be mistaken for the behaviour of a function in a probe.
    """
    global _job
    if _job is not None:  # a second signal, while closing
        _job = None
        raise KeyboardInterrupt if _grading else SystemExit


def _end_with_parent() -> None:
    """End this process if the command was killed: it would wait for work forever."""
    parent = parent_process()
    if parent is None:  # this is the command itself
        return
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)  # to close the sandbox
    os._exit(1)


def _grade(student: str) -> dict:
    global _grading
    if _job is None:
        raise SystemExit
    try:
        _grading = True
        return _job.grade(student)
    except KeyboardInterrupt:
        raise SystemExit from None
    finally:
        _grading = False


def _all(job: _Job, students: list[str], jobs: int) -> list[dict]:
    """Return the results of all students, in order.

    Each process grades one student at a time. If one dies, the remaining students are
    graded one by one, so that only the submission that broke it is lost.
    """
    kept, again = {}, []
    with tqdm(total=len(students), unit="student", disable=None) as bar:
        with _pool(job, min(jobs, len(students))) as pool:
            futures = {pool.submit(_grade, student): student for student in students}
            try:
                for future in as_completed(futures):
                    try:
                        kept[futures[future]] = future.result()
                        bar.update()
                    except BrokenProcessPool:
                        again.append(futures[future])
            except BaseException:  # Ctrl-C, or a bug here: stop
                for process in active_children():
                    process.terminate()
                pool.shutdown(cancel_futures=True)
                raise
        for student in again:
            with _pool(job, 1) as pool:
                try:
                    kept[student] = pool.submit(_grade, student).result()
                except BrokenProcessPool:
                    kept[student] = job.broken(
                        student, "broke the grading process: look at it by hand"
                    )
            bar.update()
    return [kept[student] for student in students]


def _pool(job: _Job, processes: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(processes, get_context("spawn"), _begin, (job,))


def _summary(kept: list[dict], release: Release, path: Path) -> None:
    """Print a summary of the class, and what needs attention."""
    most = max(one["max"] for one in kept)
    mean = sum(one["total"] for one in kept) / len(kept)
    print(f"{len(kept)} students, on average {mean:.1f} of {most:g} points: {path}")
    for one in kept:
        for warning in [*one["warnings"], *one["notes"]]:
            print(f"  {clean(one['student'])}: {clean(warning)}")
    hand = [
        one.grade_id
        for one in release.exercises
        if any(student["points"][one.grade_id] is None for student in kept)
    ]
    if hand:
        print(f"to be graded by hand: {', '.join(hand)}")
