"""What every component's checks must hold, shared by the tests in tests/checks.

WRONG holds what learners write, {catalogue id: source or function}; HONEST holds right
functions in different styles. Ids may carry a letter for a second form: "A17k".
"""

from collections.abc import Callable
from functools import partial

import pytest
from contradictions import contradictions
from mutants import Counts, compiled, judge

from gpt2_lesson.checks.diagnosis import diagnose, on_probe
from gpt2_lesson.checks.exercise import Exercise
from gpt2_lesson.checks.probing import observe
from gpt2_lesson.checks.registry import all_exercises

Form = str | Callable
EXERCISES = all_exercises()


def function_of(exercise: Exercise, form: Form, extra: dict | None = None) -> Callable:
    """Return the function of a source text (its body, or a whole definition)."""
    if callable(form):
        return form
    if not form.lstrip().startswith(("def ", "import ", "class ", "from ")):
        head = exercise.signature.split(" ->")[0].split(", ready")[0]
        body = "\n".join(f"    {line}" for line in form.strip().splitlines())
        form = f"def {head}:\n{body}"
    return compiled(form, exercise.name, extra)


def rejected(exercise: Exercise, form: Form, extra: dict | None = None):
    """Return the report on a wrong function; fail if it is accepted."""
    report = diagnose(exercise, partial(observe, function_of(exercise, form, extra)))
    assert not report.passed, "a wrong function was accepted"
    assert report.state == "wrong"
    assert not contradictions(report), f"{contradictions(report)} in\n{report}"
    return report


def named(
    exercise: Exercise, wrong: dict[str, Form], extra: dict | None = None
) -> tuple[list[str], dict[str, str]]:
    """Return the ids whose form is named rightly, and {id: what was said} of the rest.

    A name is right if it is the id's own; for a second form ("T3'", or a letter that no
    mistake has) the letters at the end don't count. A wrong name fails at once.
    """
    good, rest = [], {}
    known = {one.id for one in exercise.mistakes}
    for name, form in wrong.items():
        report = rejected(exercise, form, extra)
        own = name.rstrip("'")
        ids = {
            one.id if own in known else _root(one.id)
            for match in report.matches
            for one in match
        }
        if (own if own in known else _root(name)) in ids and len(report.matches) <= 2:
            good.append(name)
        else:
            assert not ids, f"{name} is called {report.named}"
            rest[name] = str(report)
    return good, rest


def _root(name: str) -> str:
    return name.rstrip("abcdefghijklmnopqrstuvwxyz'")


def accepted(exercise: Exercise, form: Form, extra: dict | None = None) -> None:
    """Fail unless a right function is accepted, on several seeds."""
    function = function_of(exercise, form, extra)
    for seed in (0, 1, 7):
        report = diagnose(exercise, partial(observe, function), seed)
        assert report.passed, str(report)


def told_apart(exercise: Exercise, aliases: set[frozenset[str]] = frozenset()) -> None:
    """Fail if two mistakes do the same on every probe and are not declared aliases."""
    n = len(exercise.probes(0))
    seen = {
        one.id: [on_probe(exercise, (one.id,), 0, i) for i in range(n)]
        for one in exercise.mistakes
    }
    right = exercise.expected(0)
    ids = list(seen)
    for i, a in enumerate(ids):
        assert not all(map(exercise.same, seen[a], right)), f"{a} equals the right one"
        for b in ids[i + 1 :]:
            if all(map(exercise.same, seen[a], seen[b])):
                assert frozenset((a, b)) in aliases, f"{a} and {b} do the same"


def mutation_run(
    exercise: Exercise,
    source: str = "",
    extra: dict | None = None,
    record: Callable | None = None,
    seconds: float = 0.5,
) -> Counts:
    """Fail if a wrong mutant is accepted or wrongly named; print the counts.

    At least 80% of the mutants that match nothing and do not crash must get a clue that
    holds on fresh inputs too.
    """
    counts = judge(exercise, source or exercise.solution, extra, seconds=seconds)
    print(f"{exercise.name}: {counts}")
    if record is not None:
        record("mutants", f"{exercise.name}: {counts}")
    assert not counts.accepted, counts.accepted
    assert not counts.false_names, counts.false_names
    assert counts.named or counts.clue, "no mutant was looked at"
    unmatched = len(counts.clue) + len(counts.silent)
    assert len(counts.clue) >= 0.8 * unmatched, counts.silent
    return counts


def complete(exercise: Exercise) -> None:
    """Fail if a mistake lacks an id of its own, a name, a reason or a hint."""
    ids = [mistake.id for mistake in exercise.mistakes]
    assert len(set(ids)) == len(ids), sorted(one for one in ids if ids.count(one) > 1)
    for mistake in exercise.mistakes:
        for part in ("id", "name", "why"):
            assert getattr(mistake, part), f"{mistake.id} has no {part}"
        assert all(exercise.hints_for(mistake)), f"{mistake.id} lacks a hint"
    assert all(exercise.hints) and exercise.solution, exercise.name


class Catalogue:
    """The tests that the checks of every component must pass.

    A subclass, whose name begins with Test, gives `cases`: {exercise: (wrong, honest)};
    `extra` holds names that the sources use, `share` of the wrong ones must be named;
    `sources` are mutated in place of solutions, each mutant for so many `seconds`.
    """

    cases: dict[str, tuple[dict[str, Form], dict[str, Form]]] = {}
    extra: dict[str, object] | None = None
    share = 0.8
    sources: dict[str, str] = {}
    seconds = 0.5

    def pytest_generate_tests(self, metafunc) -> None:
        """Let each test run for each exercise, or for each style of each."""
        if "style" in metafunc.fixturenames:
            metafunc.parametrize(
                ("name", "style"),
                [
                    (name, style)
                    for name, (_, honest) in self.cases.items()
                    for style in honest
                ],
            )
        elif "name" in metafunc.fixturenames:
            metafunc.parametrize("name", self.cases)

    def test_every_mistake_is_rejected_and_most_are_named(self, name: str) -> None:
        wrong = self.cases[name][0]
        good, rest = named(EXERCISES[name], wrong, self.extra)
        assert len(good) >= self.share * len(wrong), "\n".join(map(str, rest.items()))

    def test_every_honest_style_is_accepted(self, name: str, style: str) -> None:
        accepted(EXERCISES[name], self.cases[name][1][style], self.extra)

    def test_the_catalogue_is_whole_and_tells_mistakes_apart(self, name: str) -> None:
        assert len(self.cases[name][1]) >= 8
        complete(EXERCISES[name])
        told_apart(EXERCISES[name])

    @pytest.mark.slow
    def test_no_mutant_passes(self, name: str, record_property) -> None:
        mutation_run(
            EXERCISES[name],
            self.sources.get(name, ""),
            self.extra,
            record_property,
            self.seconds,
        )
