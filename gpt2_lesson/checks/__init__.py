"""Checks that say which known mistake a function behaves like.

`checks.attention(my_attention)` returns a report: text in a terminal, HTML in a
notebook. There is one check for each exercise (`dir(checks)` lists them), and
`checks.answer("07.1", value)` for answers that are values. `checks.hint("attention")`
or `checks.hint("01.2")`, the exercise's number, opens the next hint,
`checks.progress()` shows what is done, `checks.inputs("attention", 1)` is an input that
a report speaks of, and `checks.solution("attention")` a solution that has been earned.

To add a mistake, as a teacher who has seen a new one:

1. Open the lesson's file, say `exercises/attention.py`.
2. Add `Mistake("A1", "no scale", edit=(" / math.sqrt(q.size(-1))", ""), why="...",
   idea="...")` to its mistakes: `edit` is a text of the solution and what replaces it,
   `name` completes "behaves like ...", `why` says what the numbers show, and `idea` is
   a question; where to look and the right line follow from the edit.
3. If no probe tells it from its neighbours, add one to `probes`.
4. In `tests/test_checks_attention.py` add the mistake as a learner would write it; the
   tests then show that it is rejected, named, and confused with nothing.

A new exercise is a new `Exercise` in a file of `exercises`; nothing else need be told.
"""

from functools import lru_cache
from importlib import import_module
from pkgutil import iter_modules

from gpt2_lesson.checks.hints import hint, progress, solution
from gpt2_lesson.checks.report import Report, settings

_OWN = ["answer", "hint", "inputs", "progress", "solution", "settings", "Report"]


@lru_cache(maxsize=1)
def everything() -> dict:
    """Return all exercises and answers by name, in the order of the lessons."""
    from gpt2_lesson.checks.engine import Exercise
    from gpt2_lesson.checks.values import Answer

    found = []
    for folder in ("exercises", "components", "answers"):
        package = import_module(f"gpt2_lesson.checks.{folder}")
        for module in sorted(iter_modules(package.__path__), key=lambda one: one.name):
            names = vars(import_module(f"{package.__name__}.{module.name}"))
            found += [one for one in (*names.values(), *names.get("ANSWERS", ()))
                      if isinstance(one, Exercise | Answer)]
    found = list(dict.fromkeys(found))
    return {one.name: one for one in sorted(found, key=lambda one: one.lesson)}


def answer(name: str, value: object) -> Report:
    """Return the report on the value asked for by exercise `name`, such as "07.1".

    Raises KeyError for an exercise that does not exist, TypeError if it asks for a
    function.
    """
    from gpt2_lesson.checks.hints import find
    from gpt2_lesson.checks.values import Answer

    asked = [one for one in find(name) if isinstance(one, Answer)]
    if len(asked) != 1:
        functions = ", ".join(f"checks.{one.name}(...)" for one in find(name)
                              if one not in asked)
        values = ", ".join(f'checks.answer("{one.name}", ...)' for one in asked)
        raise TypeError(f"{name} does not ask for one value: " + (
            ", ".join(filter(None, (functions, values))) or "it is read by a person"))
    return asked[0](value)


def inputs(name: str, number: int) -> tuple:
    """Return the input `number` with which the check of a function tries it.

    A report names the one that it shows. Changing it changes nothing in the check.
    """
    from copy import deepcopy

    from gpt2_lesson.checks.engine import Exercise

    exercise = everything().get(name)
    if not isinstance(exercise, Exercise):
        raise KeyError(f"no function is called {name!r}: see dir(checks)")
    battery = exercise.battery(0)
    if type(number) is not int or not 0 <= number < len(battery):
        raise IndexError(f"{name} has the inputs 0 to {len(battery) - 1}, not {number}")
    return deepcopy(battery[number].args)


def __getattr__(name: str):
    if not name.startswith("_") and name in everything():
        return everything()[name]
    import difflib

    near = difflib.get_close_matches(name, __dir__(), 3)
    raise AttributeError(f"no check is called {name!r}"
                         + (f"; nearest: {', '.join(near)}" if near else ""))


def __dir__() -> list[str]:
    return sorted([*_OWN, *(name for name in everything() if name.isidentifier())])


__all__ = ["Report", "answer", "everything", "hint", "inputs", "progress", "settings",
           "solution"]
