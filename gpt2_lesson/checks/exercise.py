"""What is known about an exercise: its right answer, its probes, its mistakes."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

from torch import Generator

from gpt2_lesson.checks.compare import equal
from gpt2_lesson.checks.edits import Edit, apply_edits, changed_lines, compile_function
from gpt2_lesson.checks.probing import (
    Function,
    Observation,
    Probe,
    Value,
    neutral,
    observe,
)

RunProbe = Callable[[Probe], Observation]


@dataclass(frozen=True)
class Mistake:
    """A known mistake: an edit of the right answer, what it is called, what shows it.

    `name` completes "behaves like this known mistake: ..."; `why` says what the numbers
    show. `edit` is the text of the solution that is replaced, and by what (or a list of
    such pairs); a mistake that is not an edit has its whole `source`. The hints are a
    `question`, then `where` to look and the `fix`, which follow from the edit where
    they are not given. A rare mistake is `alone`: it is tried together with no other.
    """

    id: str
    name: str
    why: str
    question: str = ""
    where: str = ""
    fix: str = ""
    edit: Edit | list[Edit] = field(default_factory=list)
    source: str = ""
    alone: bool = False

    @property
    def edits(self) -> list[Edit]:
        """The edits, as a list."""
        return [self.edit] if isinstance(self.edit, tuple) else self.edit


@dataclass(frozen=True)
class EdgeCase:
    """A probe that a right function should pass too; if it does not, `note` says so."""

    note: str
    make_probe: Callable[[Generator], Probe]


@dataclass(frozen=True)
class Clue:
    """A measured fact: `key` names its kind, `text` is read by the learner.

    `question` is asked by the hint that follows it, in place of the exercise's own.
    """

    key: str
    text: str
    question: str = ""


@dataclass(frozen=True, eq=False)
class Exercise:
    """A function to be written, and all that is known about getting it wrong.

    `signature` is the contract as a learner reads it; `solution` is the right answer,
    which may use torch, math, nn, F, Tensor and `names`. `axes` names the axes of each
    tensor argument and of the result ("q": "B T d", "": "B T dv"), for the general
    clues; `read_out` measures the exercise's own. `show` names the probe whose numbers
    are shown when it fails (with `sums` of rows). `crashes` maps a pattern of PyTorch's
    message to a hint. `hints` are the levels 2 to 4 when no mistake matches. `given` is
    the id of the mistake in a version handed out to be repaired. `display` makes a
    probe whose text is shown in place of numbers, and not compared; without `reveal`
    only the learner's own text or numbers are shown. With `pair` a function may return
    (result, weights), as the lesson's own does: the result is judged. Where a probe
    makes several calls and lists their results, `one_call(probe, k)` is call k alone:
    the report shows the first that differs.
    """

    name: str
    lesson: str
    signature: str
    solution: str
    make_probes: Callable[[Generator], list[Probe]]
    mistakes: tuple[Mistake, ...] = ()
    read_out: Callable[[RunProbe, Generator], list[Clue]] | None = None
    edge_cases: tuple[EdgeCase, ...] = ()
    axes: dict[str, str] = field(default_factory=dict)
    crashes: tuple[tuple[str, str], ...] = ()
    hints: tuple[str, str, str] = ("", "", "")
    show: str = ""
    sums: bool = False
    given: str = ""
    pair: bool = False
    display: Callable[[Generator], Probe] | None = None
    reveal: bool = True
    one_call: Callable[[Probe, int], Probe] | None = None
    atol: float = 1e-5
    rtol: float = 1e-4
    names: dict[str, object] = field(default_factory=dict)

    @cached_property
    def reference(self) -> Function:
        """The right function."""
        return compile_function(self.solution, self.names)

    def with_mistakes(self, *ids: str) -> Function | None:
        """Return the function with these mistakes in it; None if they exclude another.

        Two mistakes go together where they are edits that do not overlap.
        """
        mistakes = [one for one in self.mistakes if one.id in ids]
        if len(mistakes) > 1 and any(one.alone or one.source for one in mistakes):
            return None
        if mistakes[0].source:
            return compile_function(mistakes[0].source, self.names)
        edits = [edit for one in mistakes for edit in one.edits]
        source = apply_edits(self.solution, edits)
        return compile_function(source, self.names) if source else None

    def hints_for(self, mistake: Mistake) -> tuple[str, str, str]:
        """Return a question, where to look, and the right line, for one mistake."""
        wrong, right = mistake.source, self.solution
        if mistake.edits:
            wrong, right = changed_lines(self.solution, mistake.edits)
        where = (
            f"look for code that does the same as: {wrong}"
            if wrong
            else "something is missing"
        )
        fix = right or "leave it out: the right answer has nothing here"
        return mistake.question, mistake.where or where, mistake.fix or fix

    def to_repair(
        self,
        name: str,
        given: str,
        where: str = "",
        fix: str = "",
        question: str = "",
    ) -> "Exercise":
        """Return the exercise of repairing a version with the mistake `given` (its id).

        As long as that mistake is in it, the check says only that it is not repaired.
        The hints `where`, `fix` and `question` are given where those of the mistake
        don't speak of the version's own lines.
        """
        (mistake,) = (one for one in self.mistakes if one.id == given)
        asked, *others = self.hints_for(mistake)
        return replace(
            self,
            name=name,
            given=given,
            hints=(question or asked, where or others[0], fix or others[1]),
            signature=self.signature.replace(f"{self.name}(", f"{name}("),
            solution=self.solution.replace(f"def {self.name}(", f"def {name}("),
        )

    @property
    def task(self) -> str:
        """What is to be done, as a sentence for who has not begun."""
        return f"{'Repair' if self.given else 'Write'} {self.signature}."

    @property
    def arguments(self) -> list[str]:
        """The names of the function's arguments, read from its signature."""
        inside = self.signature[self.signature.find("(") + 1 : self.signature.find(")")]
        return [part.split("=")[0].split(":")[0].strip() for part in inside.split(",")]

    def probes(self, seed: int) -> list[Probe]:
        """Return the probes for a seed; the same seed gives the same numbers."""
        return _probes(self, seed)

    def expected(self, seed: int) -> list[Observation]:
        """Return what the right function does on each probe."""
        return _expected(self, seed)

    def alike(self, seen: Observation, wrong: Observation, wanted: Observation) -> bool:
        """Return True if a function did with one probe what a mistake does.

        Where the right one has no error, an error must have the mistake's text, too,
        but for the numbers in it: two errors of one class may have two causes.
        """
        causes = {re.sub(r"\d+", "0", one.message) for one in (seen, wrong)}
        return self.same(seen, wrong) and (len(causes) == 1 or bool(wanted.error))

    def same(self, a: Observation, b: Observation) -> bool:
        """Return True if two functions did the same with one probe."""
        if a.error or b.error:
            return a.error == b.error
        if a.changed != b.changed or a.repeats != b.repeats:
            return False
        return not a.repeats or equal(a.value, b.value, self.atol, self.rtol)


@lru_cache(maxsize=64)
def _probes(exercise: Exercise, seed: int) -> list[Probe]:
    with neutral():
        return exercise.make_probes(Generator().manual_seed(seed))


@lru_cache(maxsize=64)
def _expected(exercise: Exercise, seed: int) -> list[Observation]:
    return [
        observe(exercise.reference, probe, again=False)
        for probe in exercise.probes(seed)
    ]


@dataclass(frozen=True, eq=False)
class Answer:
    """A question whose answer is a value, with the wrong values that have a name.

    `name` is the exercise's number ("07.1"), `question` completes "07.1 asks for ...".
    `expected` is the value, or a function that works it out. `wrong` holds (value,
    Mistake): a value, some entries of a dict (the rest may be anything), or a function
    that returns True for wrong values of a kind. For answers with many right values,
    `test(value)` returns what is still wrong, a sentence each, and `expected` is one
    right value. `normalise` brings a value into the form in which it is judged.
    How near is near enough: with `decimals`, a number is judged to the decimals that it
    has, and at least so many are asked for; for measured values `rtol` is the relative
    error allowed, and `atol` the absolute one. Else it must be exact. `precision` is
    what the exercise asks for, in its words.
    `predict` marks a prediction: the first one is kept, and a wrong one is only said to
    be wrong, so that the next cell does not lose its point.
    """

    name: str
    question: str
    expected: Value
    wrong: tuple[tuple[Value, Mistake], ...] = ()
    rtol: float = 0.0
    atol: float = 0.0
    decimals: int | None = None
    precision: str = ""
    test: Callable[[Value], list[str]] | None = None
    normalise: Callable[[Value], Value] = lambda value: value
    predict: bool = False
    hints: tuple[str, str, str] = ("", "", "")
    solution: str = ""

    @property
    def mistakes(self) -> tuple[Mistake, ...]:
        """The wrong answers that have a name, each once."""
        found = {(one.name, self.hints_for(one)): one for _, one in self.wrong}
        return tuple(found.values())

    @property
    def task(self) -> str:
        """What is to be done, as a sentence for who has not begun."""
        return f"{self.name} asks for {self.question}."

    @property
    def lesson(self) -> str:
        """The lesson's number, "07"."""
        return self.name.split(".")[0]

    def wanted(self) -> Value:
        """Return the right value, or one of them."""
        return self.expected() if callable(self.expected) else self.expected

    def hints_for(self, mistake: Mistake) -> tuple[str, str, str]:
        """Return a question, where to look, and the right line, for one mistake."""
        return mistake.question, mistake.where, mistake.fix
