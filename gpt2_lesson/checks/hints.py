"""Hints that open one at a time, and what is done: one local JSON file.

The file is `$GPT2_LESSON_PROGRESS`, or `~/.gpt2_lesson/progress.json`. Where it can't
be written, progress lasts as long as the Python process.
"""

import contextlib
import html
import json
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from gpt2_lesson.checks import registry
from gpt2_lesson.checks.report import Report
from gpt2_lesson.checks.sets import SETS
from gpt2_lesson.checks.settings import settings
from gpt2_lesson.files import atomic_write
from gpt2_lesson.renamed import FORMER

LAST = 4  # the last hint: the line
_memory: dict[str, dict] = {}


def file() -> Path:
    """Return where progress is kept."""
    return Path(
        os.environ.get("GPT2_LESSON_PROGRESS")
        or Path.home() / ".gpt2_lesson" / "progress.json"
    ).expanduser()


def load() -> dict[str, dict]:
    """Return {exercise: {"tries", "done", "hint_level", ...}}; {} for no or a bad file.

    The last exercise that was tried stands last.
    """
    try:
        found = json.loads(file().read_text(encoding="utf-8"))["exercises"]
        return {
            FORMER["checks"].get(name, name): _sound(entry)
            for name, entry in found.items()
            if isinstance(entry, dict)
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {name: dict(entry) for name, entry in _memory.items()}


def _sound(entry: dict) -> dict:
    """Return an entry without parts of another type than they should have."""
    kinds = {
        "tries": int,
        "hint_level": int,
        "about": list,
        "state": str,
        "question": str,
        "fingerprint": str,
    }
    if "rung" in entry:  # its name in version 0.1
        entry = {"hint_level": entry["rung"], **entry}
    sound = {
        key: part
        for key, part in entry.items()
        if type(part) is kinds.get(key, type(part))
    }
    return {"tries": 0, "hint_level": 1} | sound


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
            stack.enter_context(FileLock(f"{file()}.lock", timeout=20))
        entries = load()
        try:
            yield entries
        finally:
            save(entries)


def note(report: Report) -> None:
    """Keep what the next hint needs to know of a report, and count the attempt.

    The first prediction is kept, and said beside a later one. A version to be repaired
    is no attempt when it comes first with the results that it had when it was given;
    after a change it is one.
    """
    if not report.fingerprint:  # nothing has been written
        return
    predicted = getattr(report.exercise, "predict", False)
    with changing() as exercises:
        name = report.exercise.name
        entry = exercises.pop(name, None) or {
            "tries": 0,
            "done": False,
            "hint_level": 1,
        }
        exercises[name] = entry  # the last one tried stands last
        about = [
            mistake.name
            for match in report.matches
            for mistake in match
            if len(report.matches) == 1
        ]
        if entry.get("about", about) != about:  # another mistake: hints from 2 on
            entry.update(hint_level=1, opened_at=None)
        before = entry.get("fingerprint")
        if before or report.state != "not written":
            entry["tries"] += before != report.fingerprint
        entry.update(
            fingerprint=report.fingerprint,
            state=report.state,
            about=about,
            question=next(
                (clue.question for clue in report.clues if clue.question), ""
            ),
            done=bool(entry.get("done")) or report.passed,
        )
        if predicted and settings.mode == "public":
            first = entry.setdefault("first", report.answer)
            if first != report.answer:
                report.aside = f"You first predicted {first}."


class Note:
    """A few lines to be shown: text in a terminal, HTML in a notebook."""

    def __init__(self, *lines: str, code: str = "") -> None:
        self.lines, self.code = [line for line in lines if line], code

    def __str__(self) -> str:
        return "\n".join([*self.lines, *([self.code] if self.code else [])])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        code = f"<pre>{html.escape(self.code)}</pre>" if self.code else ""
        return (
            "".join(
                f'<div style="white-space:pre-line;max-width:760px">'
                f"{html.escape(line)}</div>"
                for line in self.lines
            )
            + code
        )


def hint(name: str) -> Note:
    """Return the next hint for an exercise: a check's name, or a number ("08.2").

    Before the first attempt it says how to begin. After a failing check: 1 the name of
    the mistake (always in the report), 2 a question, 3 where to look, 4 the
    line. A further hint opens after a changed attempt; another mistake begins again at
    2. A number with several checks means the one that failed last, or else the first
    that is open. Raises KeyError for an exercise that does not exist.
    """
    found = registry.find(name)
    if settings.mode == "exam":
        return Note("In an exam there are no hints.")
    if not found:
        return Note(
            f"{name} has no check, and so no hints: what you write is read by a person."
        )
    with changing() as exercises:
        exercise = _due(found, exercises)
        entry = exercises.get(exercise.name, {})
        lines = _next_hint(exercise, entry)
    return Note(*([f"{exercise.name}:"] if len(found) > 1 else []), *lines)


def _due(found: list, exercises: dict[str, dict]):
    """Return the exercise that failed last, or else the first that is not done."""
    names = {exercise.name: exercise for exercise in found}
    failing = [
        name
        for name, entry in exercises.items()
        if name in names and entry.get("state") not in (None, "right")
    ]
    still = [name for name in names if not exercises.get(name, {}).get("done")]
    return names[(failing[-1:] or still[:1] or list(names)[-1:])[0]]


def _next_hint(exercise, entry: dict) -> list[str]:
    """Return the hints that are open now, and open one more after a new attempt."""
    if not entry.get("fingerprint"):
        begin = exercise.hints[0]
        return [
            exercise.task,
            f"To begin: {begin}" * bool(begin),
            "The next hint opens when its check has seen an attempt.",
        ]
    if entry.get("state") == "right":
        return [
            f"{exercise.name} is right. One way to write it: "
            f'checks.solution("{exercise.name}")'
        ]
    level = entry.get("hint_level", 1)
    if entry.get("opened_at") != entry["fingerprint"] and level < LAST:
        level += 1
    entry.update(hint_level=level, opened_at=entry["fingerprint"])
    after = (
        "Change something and check again. Then the next hint opens."
        if level < LAST
        else f'A whole solution: checks.solution("{exercise.name}")'
    )
    return [*(text for text in _levels(exercise, entry)[: level - 1] if text), after]


def _levels(exercise, entry: dict) -> list[str]:
    """Return the hints 2, 3, 4: those of the mistake seen last, else the exercise's."""
    named = [one for one in exercise.mistakes if one.name in (entry.get("about") or [])]
    general = (entry.get("question") or exercise.hints[0], *exercise.hints[1:])
    own = [exercise.hints_for(mistake) for mistake in named]
    return [
        "\n".join(filter(None, (level[i] for level in own))) or general[i]
        for i in range(3)
    ]


def solution(name: str) -> Note:
    """Return a whole solution, once its check has passed or all its hints are open."""
    found = registry.find(name)
    if settings.mode == "exam":
        return Note("In an exam there are no solutions.")
    if not found:
        return Note(f"{name} has no check: the teacher's notebook contains an answer.")
    entries = load()
    closed = [one.name for one in found if not _earned(entries.get(one.name, {}))]
    shown = [one.solution for one in found if one.name not in closed]
    code = "\n\n\n".join(
        text
        for text in shown
        if not any(text in longer for longer in shown if longer != text)
    )
    return Note(
        *(
            f"The solution opens when {one} is right, or after its last hint: "
            f'checks.hint("{one}")'
            for one in closed
        ),
        *["One way to write it:"] * bool(code),
        code=code,
    )


def _earned(entry: dict) -> bool:
    return bool(entry.get("done")) or (
        entry.get("tries", 0) > 0 and entry.get("hint_level", 1) >= LAST
    )


class Progress:
    """What is done, lesson by lesson."""

    def __init__(self, rows: list[tuple[str, list[tuple[str, str]]]]) -> None:
        self.rows = rows

    def __str__(self) -> str:
        lines = []
        for lesson, parts in self.rows:
            done = sum(state == "done" for _, state in parts)
            lines.append(
                f"{lesson}  {done} of {len(parts)}   "
                + "  ".join(f"{_SIGNS[state]} {name}" for name, state in parts)
            )
        return "\n".join([*lines, "(x) right   (-) tried   ( ) not yet"])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        body = "".join(
            f'<tr><td style="text-align:left">{html.escape(lesson)}</td>'
            f'<td style="white-space:nowrap">'
            f"{sum(s == 'done' for _, s in parts)} of {len(parts)}</td>"
            '<td style="text-align:left">'
            + "&emsp;".join(
                f'<span style="white-space:nowrap">{_SIGNS[state]} {html.escape(name)}'
                "</span>"
                for name, state in parts
            )
            + "</td></tr>"
            for lesson, parts in self.rows
        )
        return (
            f"<table><thead><tr><th>lesson</th><th>right</th><th></th></tr></thead>"
            f"<tbody>{body}</tbody></table><div>(x) right &emsp; (-) tried &emsp; "
            "( ) not yet</div>"
        )


_SIGNS = {"done": "(x)", "tried": "(-)", "open": "( )"}


def progress() -> Progress:
    """Return what is right, tried and open, lesson by lesson, from the local file."""
    entries, known = load(), registry.all_exercises()
    rows: dict[str, list[tuple[str, str]]] = {}
    for number, names in SETS.items():
        for name in names:
            entry = entries.get(name, {})
            state = (
                "done"
                if entry.get("done")
                else "tried"
                if entry.get("tries")
                else "open"
            )
            rows.setdefault(known[name].lesson, []).append(
                (name if name[0].isdigit() else f"{number} {name}", state)
            )
    return Progress(list(rows.items()))
