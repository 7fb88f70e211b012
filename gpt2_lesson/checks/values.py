"""Answers that are values: a prediction, a measured number, a choice of letters."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gpt2_lesson.checks import clues
from gpt2_lesson.checks.engine import Mistake, equal
from gpt2_lesson.checks.probing import Seen, plain
from gpt2_lesson.checks.report import Report, settings


@dataclass(frozen=True, eq=False)
class Answer:
    """A question whose answer is a value, with the wrong values that have a name.

    `name` is the exercise's number ("07.1"). `expected` is the value, or a function
    that works it out; `rtol` is the relative error allowed (measured values), 0 means
    exact. `wrong` holds (value, Mistake). For answers with many right values,
    `test(value)` returns what is still wrong, a sentence each, and `expected` is one
    right value.
    `predict` marks a prediction: the first one is kept, and a wrong one is only said to
    be wrong, so that running the next cell keeps its surprise.
    """

    name: str
    question: str
    expected: object | Callable[[], object]
    wrong: tuple[tuple[object, Mistake], ...] = ()
    rtol: float = 0.0
    atol: float = 0.0
    test: Callable[[object], list[str]] | None = None
    predict: bool = False
    hints: tuple[str, str, str] = ("", "", "")
    solution: str = ""
    call: str = field(default="", init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "call", f"the answer to: {self.question}")

    @property
    def lesson(self) -> str:
        """The lesson's number, "07"."""
        return self.name.split(".")[0]

    def __call__(self, value: object) -> Report:
        """Return the report on a learner's value, and note it as progress."""
        from gpt2_lesson.checks import hints

        report = self.examine(value)
        predicted = self.predict and report.state != "not written"
        if predicted and settings.face == "public":
            first = hints.first(self.name, repr(plain(value))[:200])
            if first != repr(plain(value))[:200]:
                report.remarks.append(f"your first prediction was {first}")
        hints.note(report)
        return report

    def examine(self, value: object) -> Report:
        """Return the report on a value: plain data, from anywhere."""
        start = time.perf_counter()
        report = self._report(value)
        report.seconds = time.perf_counter() - start
        return report

    def _report(self, value: object) -> Report:
        if _open(value):
            return Report(self, "not written")
        mark = clues.fingerprint([Seen(value)])
        complaints = self._complaints(value)
        if not complaints:
            return Report(self, "right", fingerprint=mark)
        matches = [(mistake,) for wrong, mistake in self.wrong
                   if self._equals(value, wrong)]
        return Report(self, "wrong", matches=matches, symptoms=complaints,
                      fingerprint=mark)

    def _complaints(self, value: object) -> list[str]:
        """Return what is wrong with a value: nothing for a right one."""
        if self.test is not None:
            try:
                return list(self.test(value))
            except Exception:
                return [f"your answer: {clues.shown(value)}; expected "
                        f"{_kind(self.wanted())}"]
        wanted = self.wanted()
        if self._equals(value, wanted):
            return []
        if not _comparable(value, wanted):
            return [f"your answer: {clues.shown(value)}; expected {_kind(wanted)}"]
        return [f"your answer: {clues.shown(value, 300)}", *self._parts(value, wanted)]

    def _parts(self, value: object, wanted: object) -> list[str]:
        """Return which entries of a list or dict are right, not what they should be."""
        mine, right = _simple(value), _simple(wanted)
        if not isinstance(right, dict | list):
            return []
        if len(mine) != len(right) or (
                isinstance(right, dict) and mine.keys() != right.keys()):
            return [f"expected {_kind(wanted)}"]
        names = [repr(key) for key in wanted] if isinstance(right, dict) else [
            f"entry {i}" for i in range(len(right))]
        if isinstance(right, dict):
            mine = {key: mine[key] for key in right}
        found = list(zip(names, _entries(mine), _entries(right), strict=True))
        odd = [f"{name} should be {_kind(b)}" for name, a, b in found
               if type(a) is not type(b)]
        good, bad = ([name for name, a, b in found if self._equals(a, b) is state]
                     for state in (True, False))
        told = f"right: {', '.join(good)}; not yet: {', '.join(bad)}" if good else ""
        return [*odd[:1], *([told] if told else [])]

    def wanted(self) -> object:
        """Return the right value, or one of them."""
        return self.expected() if callable(self.expected) else self.expected

    def _equals(self, value: object, wanted: object) -> bool:
        """Return True for equal values; 6 equals 6.0, and a tensor of one number."""
        value, wanted = _simple(value), _simple(wanted)
        return equal(value, wanted, self.atol, self.rtol)


def _open(value: object) -> bool:
    """Return True for None and `...`, and for what has a `...` somewhere in it."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return any(part is ... or _open(part) for part in value if part is not None)
    return value is None or value is ...


def _simple(value: object) -> object:
    """Return numbers as floats, texts stripped, in small letters, tensors as lists."""
    if isinstance(value, Tensor):
        return _simple(value.tolist())
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        return float(value) if abs(value) < 2**1000 else float("inf")
    if isinstance(value, str):
        return " ".join(value.lower().split())
    if isinstance(value, dict):
        return {_simple(key): _simple(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_simple(part) for part in value]
    if hasattr(value, "item") and hasattr(value, "dtype"):
        return _simple(torch.as_tensor(value).tolist())
    return value


def _entries(value: dict | list) -> list:
    """Return the entries of a dict or of a list, in their order."""
    return list(value.values()) if isinstance(value, dict) else value


def _kind(wanted: object) -> str:
    """Return what sort of value is wanted, without the value."""
    wanted = wanted if isinstance(wanted, dict) else _simple(wanted)
    if isinstance(wanted, dict):
        return f"a dict with the entries {', '.join(map(repr, wanted))}"
    if isinstance(wanted, list):
        return f"a list of {len(wanted)}"
    return {bool: "True or False", float: "a number", str: "a text"}.get(
        type(wanted), f"a {type(wanted).__name__}")


def _comparable(value: object, wanted: object) -> bool:
    return type(_simple(value)) is type(_simple(wanted))
