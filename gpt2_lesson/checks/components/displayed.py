"""Exercises whose numbers are told in words: which lines of them are shown."""

from dataclasses import dataclass

from gpt2_lesson.checks.engine import Exercise, Look
from gpt2_lesson.checks.report import Report


@dataclass(frozen=True, eq=False)
class Displayed(Exercise):
    """An exercise with a `display` whose two texts are not always both shown.

    Where they are equal they tell nothing, and are left out. `reveal` is False if the
    expected text would be the answer itself: then only the learner's own is shown.
    """

    reveal: bool = True

    def examine(self, look: Look, seed: int = 0) -> Report:
        """Return the report on what `look(probe)` sees, without the other lines."""
        report = super().examine(look, seed)
        name, *texts = report.table or [""]
        if not self.reveal:
            report.table = [name, *texts][:2] if texts else []
        elif len({text.split(maxsplit=1)[-1] for text in texts}) < 2:
            report.table = []
        return report
