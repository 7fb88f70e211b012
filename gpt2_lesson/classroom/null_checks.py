"""Replaces `gpt2_lesson.checks` in the sandbox: accepts every call and does nothing.

The cells of a set call the checks; here these calls need only run. What a lesson
exports is `Withheld` while the functions that it would answer are graded.
"""

import importlib.abc
import importlib.machinery
import sys
from types import ModuleType

WITHHELD = "is not there while your function is graded"


class Null:
    """An object whose calls, attributes, items and comparisons do nothing."""

    def __init__(self, name: str = "checks") -> None:
        self.__name__ = name

    def __call__(self, *args: object, **kwargs: object) -> "Null":
        return self

    def __getattr__(self, name: str) -> "Null":
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __getitem__(self, key: object) -> "Null":
        return self

    def __iter__(self):
        return iter(())

    def __enter__(self) -> "Null":
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def __bool__(self) -> bool:
        return False

    def __float__(self) -> float:
        return 0.0

    def __repr__(self) -> str:
        return "(not graded here)"


class Withheld:
    """A name of the lesson whose exercises are graded: it may be imported, not used."""

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __call__(self, *args: object, **kwargs: object) -> None:
        raise RuntimeError(f"{self.__name__} {WITHHELD}: write it yourself")

    def __mro_entries__(self, bases: tuple) -> tuple:
        return ()  # class Mine(Withheld): a class of its own


class _Stand(ModuleType):
    """A module without any content."""

    kind: type = Null

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.kind(f"{self.__name__}.{name}")


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds modules that the sandbox does not have: lessons, widgets, tools."""

    def __init__(self, withheld: list[str], constants: dict[str, dict]) -> None:
        self.withheld, self.constants = withheld, constants

    def find_spec(self, name: str, path: object = None, target: object = None):
        """Return the spec of an empty module for one of the course, else None."""
        if not name.startswith("gpt2_lesson."):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Return the empty module."""
        module = _Stand(spec.name)
        module.kind = Withheld if spec.name.split(".")[1] in self.withheld else Null
        vars(module).update(self.constants.get(spec.name, {}))
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the module is empty."""


def install(withheld: list[str], constants: dict[str, dict]) -> None:
    """Let imports of absent modules succeed; `constants` is what they contain."""
    sys.meta_path.append(Finder(withheld, constants))
    checks = sys.modules["gpt2_lesson.checks"]
    checks.__class__ = _Stand
