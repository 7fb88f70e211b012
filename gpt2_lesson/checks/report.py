"""What a check says: as text in a terminal, as HTML in a notebook, as points."""

import html
from collections.abc import Iterable
from dataclasses import dataclass, field

from torch import Tensor

from gpt2_lesson.checks.compare import shown
from gpt2_lesson.checks.exercise import Answer, Clue, Exercise, Mistake
from gpt2_lesson.checks.probing import Value
from gpt2_lesson.checks.settings import settings


class Points(float):
    """Points out of the most there are: a number, with its meaning in a notebook."""

    most: float

    def __new__(cls, number: float, most: float) -> "Points":
        """Return `number` as points out of `most`."""
        made = super().__new__(cls, number)
        made.most = most
        return made

    def __repr__(self) -> str:  # what nbgrader reads
        return f"{float(self):.10g}"

    def _repr_html_(self) -> str:
        return f"<span>{self!r} of {self.most:g} points</span>"


@dataclass
class Report:
    """What was found about one answer.

    `state` is "not written", "right" or "wrong". `matches` holds what the function
    behaves like: one entry is a name, several are "one of"; an entry of two mistakes is
    both at once. `answer` is a value that was given, as text. `given` is the input of
    what `table` shows, `remarks` are notes on a right answer. `seconds` is what the
    check took.
    """

    exercise: Exercise | Answer
    state: str
    answer: str = ""
    matches: list[tuple[Mistake, ...]] = field(default_factory=list)
    symptoms: list[str] = field(default_factory=list)
    given: list[str] = field(default_factory=list)
    table: list[str] = field(default_factory=list)
    clues: list[Clue] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    aside: str = ""
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
        return [
            *self.symptoms,
            *self.given,
            *self.table,
            *(clue.text for clue in self.clues),
        ]

    @property
    def named(self) -> str:
        """The mistake's name; "two at once: A; and B", "one of: A; or B", or ""."""
        names = [
            _AT_ONCE.get(len(match), "several at once: ")
            + "; and ".join(mistake.name for mistake in match)
            for match in self.matches[:3]
        ]
        return ("one of: " if len(names) > 1 else "") + "; or ".join(names)

    def require(self) -> None:
        """Raise AssertionError with the report's text unless the answer is right."""
        if not self.passed:
            raise AssertionError(str(self))

    def points(self, most: float) -> float:
        """Show the report and return the points out of `most`, as a cell's last value.

        Right gives all, else nothing; `checks.settings.partial` gives a fraction for a
        function that behaves like exactly one known mistake. A notebook shows the
        number as "0 of 4 points".
        """
        self.show()
        return Points(self.score(most), most)

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
            return f"{name}: Correct." + f" ({self.aside})" * bool(self.aside)
        if self.named and settings.mode == "public":
            like = "looks" if isinstance(self.exercise, Answer) else "behaves"
            number, _, names = self.named.partition(": ")
            if number not in _KNOWN:
                number, names = "", self.named
            return f"{name} {like} like {_KNOWN[number]}: {names}"
        return f"{name}: not right yet"

    @property
    def label(self) -> str:
        """The word in brackets before the headline."""
        return {"right": "[right]", "wrong": "[not yet]", "not written": "[ ... ]"}[
            self.state
        ]

    def parts(self) -> list[tuple[str, list[str]]]:
        """Return what stands below the headline, as (kind, lines)."""
        if self.state == "not written":
            return [("text", self.symptoms or [self.exercise.task])]
        parts = [
            ("text", self.symptoms),
            ("table", [*self.table[:1], *self.given, *self.table[1:]]),
        ]
        if settings.mode == "public":
            if len(self.matches) == 1:
                parts += [("why", [mistake.why for mistake in self.matches[0]])]
                parts += [("small", [self.agree])]
            elif self.state == "wrong":
                parts += [("why", [clue.text for clue in self.clues])]
            if self.state == "wrong":
                more = f'more: checks.hint("{self.exercise.name}")'
                parts += [("small", [self.aside, more])]
        parts += [("text", self.remarks)]  # of a right answer
        if self.printed.strip():
            parts += [
                ("small", ["your function printed:"]),
                ("table", self.printed.strip().splitlines()[:10]),
            ]
        return [
            (kind, [_printable(line) for line in lines if line])
            for kind, lines in parts
        ]

    def __str__(self) -> str:
        lines = [f"{self.label} {self.headline}"]
        for _, part in self.parts():
            lines += [f"    {line}" for line in part]
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return the report as HTML; every text in it is escaped."""
        colour = {"right": "#2e7d32", "wrong": "#b3541e", "not written": "#6b7280"}[
            self.state
        ]
        body = []
        for kind, lines in self.parts():
            if not lines:
                continue
            text = html.escape("\n".join(lines))
            body.append(
                '<pre style="margin:6px 0;white-space:pre-wrap;overflow-wrap:anywhere;'
                f'line-height:1.35;font-family:monospace">{text}'
                "</pre>"
                if kind == "table"
                else f'<div style="margin:3px 0;white-space:pre-line;{_LOOKS[kind]}">'
                f"{text}</div>"
            )
        return (
            '<div class="gpt2-lesson-report" style="padding:2px 0 4px 12px;'
            f'border-left:4px solid {colour};max-width:760px">'
            '<div style="font-weight:600">'
            f"{html.escape(f'{self.label} {self.headline}')}</div>"
            f"{''.join(body)}</div>"
        )


def _printable(line: str) -> str:
    """Return a line without what no page can show, such as colours of a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in line)


Rows = tuple[list[str], list[str]]  # yours, and the expected
_AT_ONCE = {1: "", 2: "two at once: "}
_KNOWN = {
    "": "this known mistake",
    "one of": "one of these known mistakes",
    "two at once": "two known mistakes at once",
    "several at once": "several known mistakes at once",
}
_LOOKS = {"text": "", "why": "font-style:italic", "small": "opacity:.75;font-size:90%"}


def rows_of(yours: Value, wanted: Value, sums: bool = False) -> list[str]:
    """Return rows that show a difference, yours above the expected ones, or nothing.

    At most three rows of numbers, from where the two differ first, with as many digits
    as it takes to see it.
    """
    if isinstance(yours, dict) is not isinstance(wanted, dict):
        return []  # its type has been told
    if isinstance(yours, dict) and not any(isinstance(key, str) for key in wanted):
        mine, right = shown(yours, 300), shown(wanted, 300)
        return [f"yours     {mine}", f"expected  {right}"] * (mine != right)
    if isinstance(yours, dict):
        differ = [key for key in wanted if shown(yours.get(key)) != shown(wanted[key])]
        return [
            f"{name:9} {key}: {shown(part.get(key))}"
            for key in differ[:3]
            for name, part in (("yours", yours), ("expected", wanted))
        ]
    if isinstance(yours, Tensor) is not isinstance(wanted, Tensor):
        return []  # its type has been told
    if isinstance(yours, Tensor):
        if yours.shape != wanted.shape or yours.numel() == 0:
            return []
        tries: Iterable[Rows] = (
            _tensor_rows(yours, wanted, sums, digits) for digits in (3, 6, 9)
        )
    else:
        mine, right = _windows(yours, wanted)
        tries = [
            *_lists_of_tensors(yours, wanted),
            ([f" {_brief(yours)}"], [f" {_brief(wanted)}"]),
            ([f" {mine}"], [f" {right}"]),
        ]
    for pair in tries:
        if pair[0] != pair[1]:
            return [
                f"{name if i == 0 else '':9}{row}"
                for name, rows in zip(("yours", "expected"), pair, strict=True)
                for i, row in enumerate(rows)
            ]
    return []


def _lists_of_tensors(yours: Value, wanted: Value) -> list[Rows]:
    """Return the rows of the first tensors that differ in two lists, of gradients."""
    if not isinstance(yours, list | tuple) or not isinstance(wanted, list | tuple):
        return []
    for i, (mine, right) in enumerate(zip(yours, wanted, strict=False)):
        if isinstance(right, Tensor) is not isinstance(mine, Tensor):
            return [([f" entry {i}: {_kind(mine)}"], [f" entry {i}: {_kind(right)}"])]
        if not isinstance(right, Tensor) or mine.shape != right.shape:
            continue
        for digits in (3, 6, 9):
            first, second = _tensor_rows(mine, right, False, digits)
            if first != second:
                return [(_indented(i, first), _indented(i, second))]
    return []


def _indented(i: int, rows: list[str]) -> list[str]:
    return [
        f" entry {i}:{row}" if k == 0 else f"         {row}"
        for k, row in enumerate(rows)
    ]


def _kind(value: Value) -> str:
    return (
        f"a tensor {tuple(value.shape)}"
        if isinstance(value, Tensor)
        else (shown(value))
    )


def _brief(value: Value) -> str:
    """Return plain data as a short text."""
    return f"{value:.7g}" if isinstance(value, float) else shown(value)


def _windows(yours: Value, wanted: Value) -> tuple[str, str]:
    """Return two lists or texts from a little before the first difference."""
    if not all(
        isinstance(part, str | bytes | list | tuple) for part in (yours, wanted)
    ):
        return repr(yours)[:400], repr(wanted)[:400]
    start = next(
        (
            i
            for i, (a, b) in enumerate(zip(yours, wanted, strict=False))
            if shown(a) != shown(b)
        ),
        min(len(yours), len(wanted)),
    )
    start = max(0, start - 3)
    before = "... " * (start > 0)
    return before + shown(yours[start:]), before + shown(wanted[start:])


def _tensor_rows(yours: Tensor, wanted: Tensor, sums: bool, digits: int) -> Rows:
    """Return up to 3 rows of the first matrix in which two tensors differ."""
    yours, wanted = (
        part.reshape(-1, *part.shape[-2:]) if part.dim() > 1 else part.reshape(1, 1, -1)
        for part in (yours, wanted)
    )
    differ = ~yours.double().isclose(
        wanted.double(), rtol=1e-4, atol=1e-5, equal_nan=True
    )
    i = int(differ.flatten(1).any(1).int().argmax())
    row = int(differ[i].any(1).int().argmax())
    top = max(0, min(row - 1, yours.size(1) - 3)) if row > 2 else 0
    first = int(differ[i][top : top + 3].any(0).int().argmax())
    start = first - 2 if first > 4 else 0
    cells = [
        [_cells(one[start : start + 5], digits) for one in part[i][top : top + 3]]
        for part in (yours, wanted)
    ]
    width = max(len(cell) for part in cells for row in part for cell in row)
    mine, right = (
        [
            f"row {top + k}: " * bool(top)
            + "... " * (start > 0)
            + " ".join(cell.rjust(width) for cell in row)
            + " ..." * (one.numel() > start + 5)
            + (f" | sum {one.sum().item():.2f}" if sums else "")
            for k, (row, one) in enumerate(zip(rows, part[i][top:], strict=False))
        ]
        for rows, part in zip(cells, (yours, wanted), strict=True)
    )
    return mine, right


def _cells(row: Tensor, digits: int) -> list[str]:
    """Return numbers as texts, of one width unless they are long."""
    if row.is_floating_point():
        return [f"{value:{digits + 4}.{digits}g}" for value in row.tolist()]
    return [f"{int(value):5d}" for value in row.tolist()]
