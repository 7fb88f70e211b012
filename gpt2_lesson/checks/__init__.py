"""Checks that say which known mistake a function behaves like.

`checks.attention(my_attention)` returns a report: text in a terminal, HTML in a
notebook. There is one check for each exercise (`dir(checks)` lists them), and
`checks.answer("07.1", value)` for answers that are values. `checks.hint("attention")`
or `checks.hint("01.2")`, the exercise's number, opens the next hint,
`checks.progress()` shows what is done, `checks.inputs("attention", 1)` is an input that
a report speaks of, and `checks.solution("attention")` a solution that has been earned.

A mistake is an edit of the exercise's one right answer, in `exercises/`. To add one:

    Mistake("A4", "scores divided by sqrt(T), the number of tokens",
            edit=("sqrt(q.size(-1))", "sqrt(q.size(-2))"),
            why="the scale changes with the length of the text",
            question="Over which axis does the dot product sum?"),

The name completes "behaves like this known mistake: ...", `why` says what the numbers
show, `question` is the first hint; the others follow from the edit. Add the mistake, as
a learner would write it, to `tests/checks/test_attention.py`: the tests show that it is
rejected, named, and confused with nothing. If it is confused, add a probe that tells
the two apart.

A new exercise is a new `Exercise` in a file of `exercises`; nothing else need be told.
"""

import copy
import difflib
from functools import partial
from hashlib import sha256

from gpt2_lesson.checks import registry
from gpt2_lesson.checks.answers import judge
from gpt2_lesson.checks.diagnosis import diagnose
from gpt2_lesson.checks.exercise import Answer, Exercise
from gpt2_lesson.checks.hints import hint, note, progress, solution
from gpt2_lesson.checks.probing import code_of, observe
from gpt2_lesson.checks.registry import all_exercises
from gpt2_lesson.checks.report import Report
from gpt2_lesson.checks.settings import settings
from gpt2_lesson.renamed import former

_OWN = ["answer", "hint", "inputs", "progress", "solution", "settings", "Report"]


class Check:
    """An exercise as learners call it: what they gave is noted as an attempt."""

    def __init__(self, exercise: Exercise | Answer) -> None:
        self.exercise = exercise

    def __call__(self, given: object, *seed: int) -> Report:
        """Return the report on a function or a value."""
        if isinstance(self.exercise, Answer):
            report = judge(self.exercise, given)
        else:
            report = diagnose(self.exercise, partial(observe, given), *seed)
            if report.fingerprint:  # another code with the same results is an attempt
                code = sha256(code_of(given).encode()).hexdigest()[:16]
                report.fingerprint += f" {code}"
        note(report)
        return report

    def __getattr__(self, name: str) -> object:
        return getattr(self.exercise, name)

    def __repr__(self) -> str:
        return f"<check of {self.exercise.name}>"


def answer(name: str, value: object) -> Report:
    """Return the report on the value asked for by exercise `name`, such as "07.1".

    Raises KeyError for an exercise that does not exist, TypeError if it asks for a
    function.
    """
    asked = [one for one in registry.find(name) if isinstance(one, Answer)]
    if len(asked) != 1:
        functions = ", ".join(
            f"checks.{one.name}(...)" for one in registry.find(name) if one not in asked
        )
        values = ", ".join(f'checks.answer("{one.name}", ...)' for one in asked)
        raise TypeError(
            f"{name} does not ask for one value: "
            + (", ".join(filter(None, (functions, values))) or "it is read by a person")
        )
    return Check(asked[0])(value)


def inputs(name: str, number: int) -> tuple:
    """Return the input `number` with which the check of a function tries it.

    A report names the one that it shows. Changing it changes nothing in the check.
    """
    exercise = registry.all_exercises().get(name)
    if not isinstance(exercise, Exercise):
        raise KeyError(f"no function is called {name!r}: see dir(checks)")
    probes = exercise.probes(0)
    if type(number) is not int or not 0 <= number < len(probes):
        raise IndexError(f"{name} has the inputs 0 to {len(probes) - 1}, not {number}")
    return copy.deepcopy(probes[number].args)


def _check(name: str) -> Check:
    if not name.startswith("_") and name in registry.all_exercises():
        return Check(registry.all_exercises()[name])
    near = difflib.get_close_matches(name, __dir__(), 3)
    raise AttributeError(
        f"no check is called {name!r}"
        + (f"; nearest: {', '.join(near)}" if near else "")
    )


__getattr__ = former(__name__, _check)


def __dir__() -> list[str]:
    return sorted([*_OWN, *filter(str.isidentifier, registry.all_exercises())])


__all__ = [
    "Report",
    "all_exercises",
    "answer",
    "hint",
    "inputs",
    "progress",
    "settings",
    "solution",
]
