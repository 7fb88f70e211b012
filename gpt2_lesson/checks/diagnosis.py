"""From what a function does to the name of the mistake that it behaves like.

`diagnose` compares, in this order: not written, crash, None or a wrong type, shape,
values. Then it searches for one mistake, then for two at once, that do the same on
every probe, and again on fresh inputs before it names them. When nothing fits it says
what can be measured (`clues.py`).
"""

import itertools
import time
from dataclasses import replace
from functools import lru_cache

from torch import Generator, Tensor

from gpt2_lesson.checks import clues
from gpt2_lesson.checks.compare import equal, tensors
from gpt2_lesson.checks.exercise import Clue, Exercise, Mistake, RunProbe
from gpt2_lesson.checks.probing import (
    NOT_A_FUNCTION,
    Function,
    Observation,
    Probe,
    call,
    first_of,
    gradients,
    neutral,
    observe,
)
from gpt2_lesson.checks.report import Report, rows_of

Match = tuple[Mistake, ...]  # what the function behaves like, at once
strict = False  # True in the tests: a clue that raises is an error


def diagnose(exercise: Exercise, run: RunProbe, seed: int = 0) -> Report:
    """Return the report on what `run(probe)` observes; it may run far away."""

    def run_first(probe: Probe) -> Observation:
        seen = run(probe)
        return replace(seen, value=first_of(seen.value))

    start = time.perf_counter()
    with neutral():
        report = _Examination(
            exercise, run_first if exercise.pair else run, seed
        ).report()
    report.seconds = time.perf_counter() - start
    return report


@lru_cache(maxsize=50_000)
def on_probe(
    exercise: Exercise, names: tuple[str, ...], seed: int, i: int, again: bool = True
) -> Observation:
    """Return what the mistakes called `names`, together, do on probe i."""
    return observe(_with_mistakes(exercise, names), exercise.probes(seed)[i], again)


@lru_cache(maxsize=10_000)
def _wrong_on(exercise: Exercise, name: str, seed: int) -> frozenset[int]:
    """Return the probes on which the mistake `name` alone gives something wrong."""
    return frozenset(
        i
        for i, right in enumerate(exercise.expected(seed))
        if not exercise.same(on_probe(exercise, (name,), seed, i, False), right)
    )


@lru_cache(maxsize=10_000)
def _with_mistakes(exercise: Exercise, names: tuple[str, ...]) -> Function | None:
    """Return the function with the mistakes of these names; None if they exclude."""
    return exercise.with_mistakes(*names)


def _like(seen: Observation, wanted: Observation) -> Observation:
    """Return what was seen with a number in the form of the expected one.

    A number is judged by its value, also as a tensor of one number.
    """
    value, kind = seen.value, type(wanted.value)
    if kind not in (bool, int, float):
        return seen
    if isinstance(value, Tensor) and value.dim() == 0:
        value = value.item()
    if kind is float and type(value) is int and abs(value) < 2**53:
        value = float(value)
    if kind is int and type(value) is float and value.is_integer():
        value = int(value)
    return replace(seen, value=value)


def _size(value: object) -> int:
    """Return how much there is to read in an input."""
    if isinstance(value, Tensor):
        return value.numel()
    if isinstance(value, dict):
        return sum(map(_size, (*value, *value.values())))
    if isinstance(value, list | tuple):
        return sum(map(_size, value))
    return len(value) if isinstance(value, str | bytes) else 1


class _Examination:
    """One examination of one function: what was seen, and what follows from it."""

    def __init__(self, exercise: Exercise, run: RunProbe, seed: int) -> None:
        self.exercise, self.run, self.seed = exercise, run, seed
        self.probes = exercise.probes(seed)
        self.expected = exercise.expected(seed)

    def report(self) -> Report:
        first = self.run(self.probes[0])
        if not first.written:
            return Report(self.exercise, "not written")
        if first.error == NOT_A_FUNCTION:
            return Report(
                self.exercise,
                "wrong",
                symptoms=[first.message],
                fingerprint=clues.fingerprint([first]),
            )
        seen = [first, *(self.run(probe) for probe in self.probes[1:])]
        self.seen = [_like(*pair) for pair in zip(seen, self.expected, strict=True)]
        if not all(seen.written for seen in self.seen):
            return Report(self.exercise, "not written")
        self.right = [
            self.exercise.same(*pair)
            for pair in zip(self.seen, self.expected, strict=True)
        ]
        if all(self.right):
            return Report(
                self.exercise,
                "right",
                remarks=self.remarks(),
                printed=first.printed,
                fingerprint=self.fingerprint(),
            )
        matches = self.matches()
        if any([one.id for one in match] == [self.exercise.given] for match in matches):
            return Report(
                self.exercise,
                "not written",
                symptoms=self.symptoms()[0],
                fingerprint=self.fingerprint(),
            )
        symptoms, i = self.symptoms()
        given, table = self.table(i)
        return Report(
            self.exercise,
            "wrong",
            matches=matches,
            symptoms=symptoms,
            given=given,
            table=table,
            clues=[] if matches else self.clues(),
            agree=self.agree(matches),
            printed=first.printed,
            fingerprint=self.fingerprint(),
        )

    # --- what is wrong, in numbers ---------------------------------------------------

    def symptoms(self) -> tuple[list[str], int]:
        """Return what anyone can see, and the probe on which it is to be seen.

        The first crash comes first, then a wrong type or shape, then how far off the
        values are. The probe is the shortest that shows it, unless the exercise names
        one.
        """
        failing = sorted(
            (i for i, right in enumerate(self.right) if not right),
            key=lambda i: (
                self.probes[i].name != self.exercise.show,
                self.probes[i].adapter is gradients,
                _size(self.probes[i].args),
            ),
        )
        crashed = [
            i for i in failing if self.seen[i].error and not self.expected[i].error
        ]
        if crashed:
            i = min(crashed)
            return clues.crash(self.exercise, self.probes[i], self.seen[i]), i
        for tell in (self.error_or_change, self.type_or_shape):
            for i in sorted(failing, key=lambda i: not self.probes[i].sizes):
                lines = tell(self.seen[i], self.expected[i], self.probes[i])
                if lines:
                    return lines, i
        lines = clues.difference(
            self.exercise, self.probes, self.seen, self.expected, self.right
        )
        return lines, next((i for i in failing if self.rows(i)), failing[0])

    def error_or_change(
        self, seen: Observation, wanted: Observation, probe: Probe
    ) -> list[str]:
        """Return what to say where an error is missing, or the input was changed."""
        if wanted.error and not seen.error:
            return [
                f'on "{probe.name}" an error was expected ({wanted.error}: '
                f"{wanted.message}), but yours returned a value"
            ]
        if seen.changed != wanted.changed:
            names = self.exercise.arguments
            changed = " and ".join(names[k] for k in seen.changed if k < len(names))
            return [
                f"your function changes its input {changed}: what the caller "
                "passed is not the same afterwards"
            ]
        return []

    def type_or_shape(
        self, seen: Observation, wanted: Observation, probe: Probe
    ) -> list[str]:
        """Return what to say about a result that can't be compared number by number."""
        if seen.error:
            return []
        if not isinstance(seen.value, type(wanted.value)):
            _, _, contract = self.exercise.signature.partition("-> ")
            return clues.wrong_type(
                seen.value, wanted.value, "" if probe.adapter is call else contract
            )
        if not seen.repeats:
            why = (
                "it uses random numbers"
                if seen.drawn
                else "it remembers the call before, or reads memory that was never set "
                "(torch.empty, a parameter without initial values)"
            )
            return ["two calls with the same input give different results: " + why]
        return clues.wrong_shape(seen.value, wanted.value, probe)

    def rows(self, i: int) -> list[str]:
        """Return some of the numbers of probe i that differ, yours and the expected."""
        seen, wanted = self.seen[i], self.expected[i]
        if (
            seen.error
            or wanted.error
            or equal(seen.value, wanted.value, self.exercise.atol, self.exercise.rtol)
        ):
            return []  # the values are not what is wrong
        return rows_of(seen.value, wanted.value, self.exercise.sums)

    def table(self, i: int) -> tuple[list[str], list[str]]:
        """Return the input of probe i and the numbers in which the results differ."""
        probe, rows = self.probes[i], self.rows(i)
        hidden = not self.exercise.reveal
        if self.exercise.display is not None and not self.crashed():
            shown = self.exercise.display(Generator().manual_seed(self.seed))
            texts = self.texts(shown)
            if texts and (hidden or texts[1].split()[1:] != texts[2].split()[1:]):
                return self.given(shown), texts[:2] if hidden else texts
        mine, right = self.seen[i].value, self.expected[i].value
        if self.exercise.one_call and rows and isinstance(mine, list):
            pairs = enumerate(zip(mine, right, strict=False))
            k = next((k for k, (a, b) in pairs if not equal(a, b, 0, 0)), 0)
            probe = self.exercise.one_call(probe, k)
            rows = rows_of(mine[k], right[k])
        rows = rows[:1] if hidden else rows
        return self.given(probe), [f"{probe.name}:", *rows] if rows else []

    def given(self, probe: Probe) -> list[str]:
        """Return the input of the probe that is shown, and how to have it."""
        text, whole = clues.inputs(self.exercise, probe)
        lines = [f"input     {text}"] if probe.args else []
        if not whole and self.seed == 0 and probe in self.probes:
            lines.append(
                f'          (all of it: checks.inputs("{self.exercise.name}", '
                f"{self.probes.index(probe)}))"
            )
        return lines

    def texts(self, probe: Probe) -> list[str]:
        """Return what a probe for display gives, yours and the expected text."""
        both = self.run(probe).value, observe(self.exercise.reference, probe).value
        if not all(isinstance(text, str) and text != "?" for text in both):
            return []
        return [f"{probe.name}:", f"yours     {both[0]}", f"expected  {both[1]}"]

    def agree(self, matches: list[Match]) -> str:
        if not matches:
            return ""
        what = "that mistake" if len(matches[0]) == 1 else "those two mistakes together"
        n = len(self.probes)
        return f"same output as {what} on {n} of {n} probes"

    # --- which mistake it behaves like -----------------------------------------------

    def matches(self) -> list[Match]:
        """Return what behaves the same: single mistakes, or else pairs, or nothing."""
        mistakes = self.exercise.mistakes
        single: list[Match] = [
            (mistake,) for mistake in mistakes if self.behaves_like((mistake,))
        ]
        if single or not self.finite():
            return self.confirmed(single)
        mine = {i for i, right in enumerate(self.right) if not right}
        alone = {
            one.id: _wrong_on(self.exercise, one.id, self.seed) for one in mistakes
        }
        pairs: list[Match] = [
            pair
            for pair in itertools.combinations(mistakes, 2)
            if alone[pair[0].id] | alone[pair[1].id] == mine
            and _with_mistakes(self.exercise, tuple(one.id for one in pair))
            and self.behaves_like(pair)
        ]
        return self.confirmed(pairs) if len(pairs) <= 2 else []  # never guess

    def behaves_like(self, mistakes: Match) -> bool:
        """Return True if the mistakes together do the same on every probe.

        Crashes alone are no evidence: on one probe at least it must return a value.
        """
        if all(seen.error for seen in self.seen):
            return False
        names = tuple(mistake.id for mistake in mistakes)
        order = sorted(range(len(self.seen)), key=lambda i: self.right[i])
        again = not all(seen.repeats for seen in self.seen)
        for i in order:
            wrong = on_probe(self.exercise, names, self.seed, i, again)
            if not self.exercise.alike(self.seen[i], wrong, self.expected[i]):
                return False
        return True

    def confirmed(self, candidates: list[Match]) -> list:
        """Return the candidates that also agree with the function on fresh inputs."""
        if not candidates:
            return []
        seed = self.seed + 1
        expected = self.exercise.expected(seed)
        fresh = [
            _like(self.run(probe), wanted)
            for probe, wanted in zip(self.exercise.probes(seed), expected, strict=True)
        ]

        def agrees(mistakes: Match) -> bool:
            names = tuple(mistake.id for mistake in mistakes)
            return all(
                self.exercise.alike(
                    seen, on_probe(self.exercise, names, seed, i), expected[i]
                )
                for i, seen in enumerate(fresh)
            )

        return [mistakes for mistakes in candidates if agrees(mistakes)]

    def finite(self) -> bool:
        """Return True if at least half of all the numbers seen are finite."""
        numbers = [part for seen in self.seen for part in tensors(seen.value)]
        total = sum(part.numel() for part in numbers)
        finite = sum(int(part.isfinite().sum()) for part in numbers)
        return total == 0 or finite >= total / 2

    def clues(self) -> list[Clue]:
        """Return what can be measured where no mistake matches: at most three.

        What can't be measured is left out: a report must come, whatever happens.
        """
        found: list[Clue] = []
        if self.crashed():
            return found  # the crash is told, with its line
        for measure in (self.read_out, self.general):
            try:
                found += measure(found)
            except Exception:
                if strict:
                    raise
        first = {clue.key: clue for clue in reversed(found)}  # one of each kind
        return [clue for clue in found if first[clue.key] is clue][:3]

    def read_out(self, _: list[Clue]) -> list[Clue]:
        """Return the exercise's own clues."""
        if self.exercise.read_out is None:
            return []
        return self.exercise.read_out(self.run, Generator().manual_seed(self.seed + 2))

    def general(self, found: list[Clue]) -> list[Clue]:
        """Return the clues that any function of tensors can give."""
        return clues.general(
            self.exercise,
            self.run,
            self.probes,
            self.seen,
            self.expected,
            self.right,
            told=bool(found),
        )

    def crashed(self) -> bool:
        """Return True if it crashes where the right function does not."""
        return any(
            seen.error and not wanted.error
            for seen, wanted in zip(self.seen, self.expected, strict=True)
        )

    # --- right, with a note ----------------------------------------------------------

    def remarks(self) -> list[str]:
        """Return where a right function is fragile."""
        found = []
        for case in self.exercise.edge_cases:
            probe = case.make_probe(Generator().manual_seed(self.seed))
            wanted = observe(self.exercise.reference, probe)
            if not self.exercise.same(self.run(probe), wanted):
                found.append(f"Note: {case.note}")
        return found

    def fingerprint(self) -> str:
        """Return a short text that changes when the behaviour changes."""
        return clues.fingerprint(self.seen)
