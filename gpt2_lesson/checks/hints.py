"""Hints that open one rung at a time, and what is done: one local JSON file.

The file is `$GPT2_LESSON_PROGRESS`, or `~/.gpt2_lesson/progress.json`. Where it can't
be written, progress lasts as long as the Python process.
"""

import contextlib
import difflib
import html
import json
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from gpt2_lesson.checks.report import Report, settings
from gpt2_lesson.files import atomic_write

_last: dict[str, Report] = {}
_memory: dict[str, dict] = {}


def file() -> Path:
    """Return where progress is kept."""
    return Path(os.environ.get("GPT2_LESSON_PROGRESS")
                or Path.home() / ".gpt2_lesson" / "progress.json").expanduser()


def load() -> dict[str, dict]:
    """Return {exercise: {"tries", "done", "rung", ...}}; {} for no or a bad file."""
    try:
        found = json.loads(file().read_text(encoding="utf-8"))["exercises"]
        return {name: _sound(entry) for name, entry in found.items()
                if isinstance(entry, dict)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {name: dict(entry) for name, entry in _memory.items()}


def _sound(entry: dict) -> dict:
    """Return an entry without counts that are no numbers."""
    return {key: part for key, part in entry.items()
            if key not in ("tries", "rung") or type(part) is int}


def save(exercises: dict[str, dict]) -> None:
    """Write progress whole; where that can't be done it stays in memory."""
    _memory.clear()
    _memory.update(exercises)
    text = json.dumps({"version": 1, "exercises": exercises}, indent=1)
    with contextlib.suppress(OSError):
        file().parent.mkdir(parents=True, exist_ok=True)
        atomic_write(file(), text)


@contextlib.contextmanager
def changing() -> Iterator[dict[str, dict]]:
    """Give the entries, to be changed, and save them; other notebooks wait."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, Timeout):
            file().parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(f"{file()}.lock", timeout=2))
        entries = load()
        try:
            yield entries
        finally:
            save(entries)


def note(report: Report) -> None:
    """Keep a report: the last one of each exercise, and the counts in the file."""
    name = report.exercise.name
    _last[name] = report
    if report.state == "not written":
        return
    with changing() as exercises:
        entry = exercises.setdefault(name, {"tries": 0, "done": False, "rung": 1})
        if entry.get("fingerprint") != report.fingerprint:
            entry["tries"] = int(entry.get("tries", 0)) + 1
        entry["fingerprint"] = report.fingerprint
        entry["done"] = bool(entry.get("done")) or report.passed


def first(name: str, value: str) -> str:
    """Return the first prediction made for exercise `name`; keep `value` if it is."""
    with changing() as exercises:
        entry = exercises.setdefault(name, {"tries": 0, "done": False, "rung": 1})
        return str(entry.setdefault("first", value))


class Note:
    """A few lines to be shown: text in a terminal, HTML in a notebook."""

    def __init__(self, *lines: str, code: str = "") -> None:
        self.lines, self.code = [line for line in lines if line], code

    def __str__(self) -> str:
        return "\n".join([*self.lines, *([self.code] if self.code else [])])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        code = f"<pre>{html.escape(self.code)}</pre>" if self.code else ""
        return "".join(f'<div style="white-space:pre-line;max-width:760px">'
                       f"{html.escape(line)}</div>" for line in self.lines) + code


def hint(name: str) -> Note:
    """Return the next hint for the last failing check of exercise `name`.

    Rungs: 1 the name (always in the report), 2 the idea and a question, 3 where to
    look, 4 the line. A further rung opens after a changed attempt; another mistake
    begins again at 2. Raises KeyError for an exercise that does not exist.
    """
    exercise = find(name)
    report = _last.get(exercise.name)
    if settings.face == "exam":
        return Note("In an exam there are no hints.")
    if report is None or (report.state == "not written" and not report.fingerprint):
        return Note(f"First run its check: checks.{exercise.name}({exercise.name})"
                    if getattr(exercise, "given", "") else
                    f"First write {exercise.call}, and run its check.",
                    f"To begin with: {exercise.hints[0]}" if exercise.hints[0] else "")
    if report.passed:
        return Note(f"{exercise.name} is right. One way to write it: "
                    f'checks.solution("{exercise.name}")')
    about = "+".join(mistake.id for match in report.matches for mistake in match)
    with changing() as exercises:
        entry = exercises.setdefault(exercise.name, {"tries": 1, "done": False})
        if entry.get("about", about) != about:
            entry.update(rung=1, opened_at=None)
        rung = int(entry.get("rung", 1))
        if entry.get("opened_at") != report.fingerprint and rung < 4:
            rung += 1
        entry.update(about=about, rung=rung, opened_at=report.fingerprint)
    lines = [text for text in _rungs(report)[:rung - 1] if text]
    after = ("Change something and check again; then the next hint opens." if rung < 4
             else f'A whole solution: checks.solution("{exercise.name}")')
    return Note(*lines, after)


def _rungs(report: Report) -> list[str]:
    """Return the rungs 2, 3, 4 for a report: the mistake's, else the exercise's."""
    single = report.matches[0] if len(report.matches) == 1 else ()
    general = report.exercise.hints
    return ["\n".join(filter(None, (getattr(mistake, field) for mistake in single)))
            or general[i] for i, field in enumerate(("idea", "where", "fix"))]


def solution(name: str) -> Note:
    """Return a whole solution, once the check has passed or all hints are open."""
    exercise = find(name)
    entry = load().get(exercise.name, {})
    if settings.face == "exam":
        return Note("In an exam there are no solutions.")
    if not entry.get("done") and int(entry.get("rung", 1)) < 4:
        return Note(f"The solution opens when {exercise.name} is right, or after its "
                    f'last hint: checks.hint("{exercise.name}")')
    return Note(f"One way to write {exercise.name}:", code=exercise.solution)


def find(name: str):
    """Return the exercise or answer called `name`; KeyError with the nearest names."""
    from gpt2_lesson import checks

    known = checks.everything()
    if not isinstance(name, str):
        name = getattr(name, "name", getattr(name, "__name__", repr(name)))
    if name not in known:
        near = difflib.get_close_matches(name, known, 3) or list(known)[:5]
        raise KeyError(f"no exercise is called {name!r}; nearest: {', '.join(near)} (a "
                       "function is asked for by its name, a value by its number)")
    return known[name]


class Progress:
    """What is done, lesson by lesson."""

    def __init__(self, rows: list[tuple[str, list[tuple[str, str]]]]) -> None:
        self.rows = rows

    def __str__(self) -> str:
        lines = []
        for lesson, parts in self.rows:
            done = sum(state == "done" for _, state in parts)
            lines.append(f"{lesson}  {done} of {len(parts)}   " + "  ".join(
                f"{_SIGNS[state]} {name}" for name, state in parts))
        return "\n".join([*lines, "(x) right   (-) tried   ( ) not yet"])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        body = "".join(
            f'<tr><td style="text-align:left">{html.escape(lesson)}</td>'
            f'<td style="white-space:nowrap">'
            f"{sum(s == 'done' for _, s in parts)} of {len(parts)}</td>"
            '<td style="text-align:left">' + "&emsp;".join(
                f'<span style="white-space:nowrap">{_SIGNS[state]} {html.escape(name)}'
                "</span>" for name, state in parts) + "</td></tr>"
            for lesson, parts in self.rows)
        return (f"<table><thead><tr><th>lesson</th><th>right</th><th></th></tr></thead>"
                f"<tbody>{body}</tbody></table><div>(x) right &emsp; (-) tried &emsp; "
                "( ) not yet</div>")


_SIGNS = {"done": "(x)", "tried": "(-)", "open": "( )"}


def progress() -> Progress:
    """Return what is right, tried and open, lesson by lesson, from the local file."""
    from gpt2_lesson import checks

    entries, rows = load(), {}
    for name, exercise in checks.everything().items():
        if not getattr(exercise, "asked", True):
            continue
        entry = entries.get(name, {})
        state = "done" if entry.get("done") else "tried" if entry else "open"
        rows.setdefault(exercise.lesson, []).append((name, state))
    return Progress(sorted(rows.items()))
