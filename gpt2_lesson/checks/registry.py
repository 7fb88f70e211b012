"""All exercises, by name and by number."""

import difflib
from functools import lru_cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from gpt2_lesson.checks import exercises
from gpt2_lesson.checks.exercise import Answer, Exercise
from gpt2_lesson.checks.sets import SETS
from gpt2_lesson.renamed import FORMER


@lru_cache(maxsize=1)
def all_exercises() -> dict[str, Exercise | Answer]:
    """Return all exercises and answers by name, in the order of the lessons."""
    found = []
    for module in sorted(iter_modules(exercises.__path__), key=lambda one: one.name):
        names = vars(import_module(f"{exercises.__name__}.{module.name}"))
        found += [
            one
            for one in (*names.values(), *names.get("ANSWERS", ()))
            if isinstance(one, Exercise | Answer)
        ]
    found = list(dict.fromkeys(found))
    return {one.name: one for one in sorted(found, key=lambda one: one.lesson)}


def find(name: Any) -> list[Exercise | Answer]:
    """Return the checks of an exercise, called by name or by number; [] without any.

    Raises KeyError with the nearest names.
    """
    known = all_exercises()
    if not isinstance(name, str):
        name = getattr(name, "name", getattr(name, "__name__", repr(name)))
    name = FORMER["checks"].get(name, name)
    if name in SETS:
        return [known[one] for one in SETS[name]]
    if name in known:
        return [known[name]]
    near = difflib.get_close_matches(name, [*known, *SETS], 3) or list(SETS)[:3]
    raise KeyError(
        f"no exercise is called {name!r}; nearest: {', '.join(near)} (a "
        "function is asked for by its name, an exercise by its number)"
    )
