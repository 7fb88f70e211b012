"""What a check says: as text in a terminal, as HTML in a notebook, as points."""

import html
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

from gpt2_lesson.checks.clues import shown

if TYPE_CHECKING:
    from gpt2_lesson.checks.clues import Clue
    from gpt2_lesson.checks.engine import Exercise, Mistake


@dataclass
class Settings:
    """What a teacher can set; each also by an environment variable.

    `partial` (GPT2_LESSON_PARTIAL): the share of the points, 0 to 1, for a function
    that behaves like exactly one known mistake. `face` (GPT2_LESSON_FACE): "public"
    names the mistake, "exam" shows only the symptom.
    """

    partial: float = float(os.environ.get("GPT2_LESSON_PARTIAL", "0"))
    face: str = os.environ.get("GPT2_LESSON_FACE", "public")

    def __setattr__(self, name: str, value: object) -> None:
        if name == "partial" and not (
                isinstance(value, int | float) and 0 <= value <= 1):
            raise ValueError(f"partial is {value!r}, expected a share from 0 to 1")
        if name == "face" and value not in ("public", "exam"):
            raise ValueError(f'face is {value!r}, expected "public" or "exam"')
        if name not in ("partial", "face"):
            raise AttributeError(f"no setting {name!r}: there are partial and face")
        super().__setattr__(name, value)


settings = Settings()


@dataclass
class Report:
    """What was found about one answer.

    `state` is "not written", "right" or "wrong". `matches` holds what the function
    behaves like: one entry is a name, several are "one of"; an entry of two mistakes is
    both at once. `seconds` is what the check took.
    """

    exercise: "Exercise"
    state: str
    matches: list[tuple["Mistake", ...]] = field(default_factory=list)
    symptoms: list[str] = field(default_factory=list)
    table: list[str] = field(default_factory=list)
    clues: list["Clue"] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    agree: str = ""
    printed: str = ""
    fingerprint: str = ""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """True if the answer is right."""
        return self.state == "right"

    @property
    def evidence(self) -> list[str]:
        """What shows it, a sentence each: symptoms, numbers, clues."""
        return [*self.symptoms, *self.table, *(clue.text for clue in self.clues)]

    @property
    def named(self) -> str:
        """The mistake's name; "two at once: A; and B", "one of: A; or B", or ""."""
        names = [("two at once: " if len(match) > 1 else "") + "; and ".join(
            mistake.name for mistake in match) for match in self.matches[:3]]
        return ("one of: " if len(names) > 1 else "") + "; or ".join(names)

    def require(self) -> None:
        """Raise AssertionError with the report's text unless the answer is right."""
        if not self.passed:
            raise AssertionError(str(self))

    def points(self, most: float) -> float:
        """Show the report and return the points out of `most`, as a cell's last value.

        Right gives all, else nothing; `checks.settings.partial` gives a share for a
        function that behaves like exactly one known mistake.
        """
        self.show()
        return self.score(most)

    def score(self, most: float) -> float:
        """Return the points out of `most`, without showing anything."""
        if isinstance(most, bool) or not isinstance(most, int | float) or most < 0:
            raise ValueError(f"points out of {most!r}: expected a number from 0 on")
        if self.passed:
            return most
        one = len(self.matches) == 1 and len(self.matches[0]) == 1
        share = round(most * settings.partial, 2) if one else 0
        return int(share) if share == int(share) else share

    def show(self) -> None:
        """Show the report: HTML in a notebook, text elsewhere."""
        try:
            from IPython import get_ipython
            in_notebook = get_ipython() is not None
        except ImportError:
            in_notebook = False
        if in_notebook:
            from IPython.display import display
            display(self)
        else:
            print(self)

    @property
    def headline(self) -> str:
        """The first line: the exercise, and what it behaves like."""
        name = self.exercise.name
        if self.state == "not written":
            given = getattr(self.exercise, "given", "")
            return f"{name}: not {'repaired' if given else 'written'} yet"
        if self.passed:
            return f"{name}: right" + (", but" if self.remarks else "")
        if self.named and settings.face == "public":
            return f"{name}: behaves like {self.named}"
        return f"{name}: not right yet"

    @property
    def mark(self) -> str:
        """The word in brackets before the headline."""
        return {"right": "[right]", "wrong": "[not yet]", "not written": "[ ... ]"}[
            self.state]

    def parts(self) -> list[tuple[str, list[str]]]:
        """Return what stands below the headline, as (kind, lines)."""
        if self.state == "not written":
            return [("text", self.symptoms or [f"write {self.exercise.call}"])]
        parts = [("text", self.symptoms), ("table", self.table)]
        if settings.face == "public":
            if len(self.matches) == 1:
                parts += [("why", [mistake.why for mistake in self.matches[0]])]
                parts += [("small", [self.agree])]
            elif self.state == "wrong":
                parts += [("why", [clue.text for clue in self.clues])]
            if self.state == "wrong":
                parts += [("small", [f'more: checks.hint("{self.exercise.name}")'])]
        parts += [("text", self.remarks)]
        if self.printed.strip():
            parts += [("small", ["your function printed:"]),
                      ("table", self.printed.strip().splitlines()[:10])]
        return [(kind, [_printable(line) for line in lines if line])
                for kind, lines in parts]

    def __str__(self) -> str:
        lines = [f"{self.mark} {self.headline}"]
        for _, part in self.parts():
            lines += [f"    {line}" for line in part]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return the report as HTML; every text in it is escaped."""
        colour = {"right": "#2e7d32", "wrong": "#b3541e", "not written": "#6b7280"}[
            self.state]
        body = []
        for kind, lines in self.parts():
            if not lines:
                continue
            text = html.escape("\n".join(lines))
            body.append(
                '<pre style="margin:6px 0;overflow-x:auto;white-space:pre;'
                f'line-height:1.35;font-family:monospace">{text}'
                "</pre>" if kind == "table" else
                f'<div style="margin:3px 0;white-space:pre-line;{_LOOKS[kind]}">{text}'
                "</div>")
        return (
            '<div class="gpt2-lesson-report" style="padding:2px 0 4px 12px;'
            f'border-left:4px solid {colour};max-width:760px">'
            '<div style="font-weight:600">'
            f"{html.escape(f'{self.mark} {self.headline}')}</div>"
            f"{''.join(body)}</div>")


def _printable(line: str) -> str:
    """Return a line without what no page can show, such as colours of a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in line)


_LOOKS = {"text": "", "why": "font-style:italic", "small": "opacity:.75;font-size:90%"}


def rows_of(yours: object, wanted: object, sums: bool = False) -> list[str]:
    """Return at most three rows of numbers, yours above the expected ones."""
    if isinstance(yours, dict) and isinstance(wanted, dict):
        differ = [key for key in wanted if shown(yours.get(key)) != shown(wanted[key])]
        return [f"{name:9} {key}: {shown(part.get(key))}" for key in differ[:3]
                for name, part in (("yours", yours), ("expected", wanted))]
    if isinstance(yours, Tensor) is not isinstance(wanted, Tensor):
        return []                                    # its type has been told
    if not isinstance(yours, Tensor):
        return [f"yours     {_brief(yours)}", f"expected  {_brief(wanted)}"]
    if yours.shape != wanted.shape or yours.numel() == 0:
        return []
    yours, wanted, start = _first_difference(yours, wanted)
    return [f"{name if i == 0 else '':9}{_numbers(row, sums, start)}"
            for name, rows in (("yours", yours), ("expected", wanted))
            for i, row in enumerate(rows)]


def _brief(value: object) -> str:
    """Return plain data as a short text; tensors in a list by their size (norm)."""
    if isinstance(value, list) and any(isinstance(part, Tensor) for part in value):
        return ", ".join(f"size {part.double().norm().item():.3g}"
                         if isinstance(part, Tensor) else shown(part) for part in value)
    return f"{value:.7g}" if isinstance(value, float) else shown(value)


def _first_difference(yours: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor, int]:
    """Return up to 3 rows of the first matrix in which the two differ.

    The number is the first column to be shown: 0, or more for a late difference.
    """
    yours, wanted = (part.reshape(-1, *part.shape[-2:]) if part.dim() > 1
                     else part.reshape(1, 1, -1) for part in (yours, wanted))
    differ = ~yours.double().isclose(wanted.double(), rtol=1e-4, atol=1e-5,
                                     equal_nan=True)
    i = int(differ.flatten(1).any(1).int().argmax())
    first = int(differ[i][:3].any(0).int().argmax())
    return yours[i][:3], wanted[i][:3], first - 2 if first > 4 else 0


def _numbers(row: Tensor, sums: bool, start: int = 0) -> str:
    text = "... " * (start > 0) + " ".join(
        f"{value:7.3g}" if row.is_floating_point() else f"{int(value):5d}"
        for value in row[start:start + 5].tolist())
    if row.numel() > start + 5:
        text += " ..."
    return text + (f" | sum {row.sum().item():.2f}" if sums else "")
