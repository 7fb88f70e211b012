"""Put the lessons into the wheel, as gpt2_lesson/course. The rest: pyproject.toml."""

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT))  # a build does not search its own folder
from gpt2_lesson.authoring.course import copy_course  # noqa: E402


class BuildWithLessons(build_py):
    """Build the package, then copy the lessons into it."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            copy_course(ROOT, Path(self.build_lib, "gpt2_lesson", "course"))


setup(cmdclass={"build_py": BuildWithLessons})
