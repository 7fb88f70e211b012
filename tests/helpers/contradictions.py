"""Reads a report as a learner does, and says where it contradicts itself.

Each line of a report is made by itself: the size of the difference, the table, what a
mistake shows, the clues. What one of them says, another must not deny.
"""

import re
from collections.abc import Iterator

from gpt2_lesson.checks.report import Report

_NUMBER = re.compile(r"(?<![\w.])-?(?:\d+\.?\d*(?:e[-+]?\d+)?|nan|inf)(?!\w)")


def contradictions(report: Report) -> list[str]:
    """Return what is wrong with a report as a whole, a sentence each."""
    found = [
        *_differences(report),
        *_table(report),
        *_sums(report),
        *_counts(report),
        *_places(report),
    ]
    lines = [
        line
        for line in str(report).splitlines()[1:]
        if line.strip() not in map(str.strip, report.table)
    ]
    if len(lines) != len(set(lines)):
        found.append("a line stands there twice")
    if (
        report.state == "wrong"
        and report.table
        and not report.given
        and (report.exercise.probes(0)[0].args)
    ):
        found.append("numbers are shown without their input")
    return found


def _rows(report: Report) -> tuple[list[str], list[str]]:
    """Return the lines of yours and of the expected in the table."""
    yours, expected, now = [], [], []
    for line in report.table[1:]:
        now = {"yours": yours, "expe": expected}.get(line[:4].strip(), now)
        now = yours if line.startswith("yours") else now
        now.append(line[9:])
    return yours, expected


def _said(report: Report) -> str:
    """Return all sentences, without the table and the input."""
    named = report.matches[0] if len(report.matches) == 1 else ()
    return "\n".join(
        [
            *report.symptoms,
            *(one.why for one in named),
            *(clue.text for clue in report.clues),
        ]
    )


def _differences(report: Report) -> Iterator[str]:
    """Yield that two largest differences are told, or a larger one is shown."""
    told = [
        float(size.rstrip(".,").replace(",", ""))
        for size in re.findall(r"by up to ([\d.,]+(?:e[-+]\d+)?)", _said(report))
    ]
    if len(set(told)) > 1:
        yield f"two largest differences: {told}"
    yours, expected = _rows(report)
    for mine, right in zip(yours, expected, strict=False):
        numbers = [
            [float(one) for one in _NUMBER.findall(row.split("|")[0])]
            for row in (mine, right)
        ]
        if re.search("[a-z]{4}", mine + right) or len(set(map(len, numbers))) > 1:
            continue
        for a, b in zip(*numbers, strict=True):
            if told and abs(a - b) > 1.06 * max(told) + 0.006 * max(abs(a), abs(b)):
                yield f"off by up to {max(told)}, and the table shows {a} for {b}"


def _table(report: Report) -> Iterator[str]:
    """Yield that the table shows no difference."""
    yours, expected = _rows(report)
    if yours and yours == expected:
        yield "the rows of yours and of the expected are the same"


def _sums(report: Report) -> Iterator[str]:
    """Yield that the rows add up to something else than is said."""
    said = _said(report)
    sums = [
        float(one) for one in re.findall(r"sum (-?[\d.]+)", "\n".join(_rows(report)[0]))
    ]
    off = [one for one in sums if abs(one - 1) > 0.006]
    if sums and not off and re.search(r"rows[^.;:]* (do not|don't) add", said):
        yield "the rows are said not to add up to 1, and they do"
    adds = r"(?<!if )(?<!the right )rows( of [a-z ]*)? add up to 1(?![\w/.])"
    if off and re.search(adds, said) and not re.search(r"not (always )?add", said):
        yield f"the rows are said to add up to 1, and they give {off}"


def _counts(report: Report) -> Iterator[str]:
    """Yield that a count said to be too large or small is not, by the table."""
    yours, expected = (
        part[0].strip() if len(part) == 1 else "" for part in _rows(report)
    )
    if not (yours.isdigit() and expected.isdigit()):
        return
    for size, way in re.findall(
        r"([\d,]+) (?:parameters )?too (many|few)", _said(report)
    ):
        off = int(size.replace(",", "")) * (1 if way == "many" else -1)
        if off != int(yours) - int(expected):
            yield f"{size} too {way}, and the table shows {yours} for {expected}"


def _places(report: Report) -> Iterator[str]:
    """Yield that rows, or the probes that fail, are told in two ways."""
    rows = set(re.findall(r"stands in row (\d+(?:, \d+)*)", _said(report)))
    if len(rows) > 1:
        yield f"different rows: {rows}"
    right = re.search(r"correct only on: (.*)", _said(report))
    wrong = re.search(r"wrong only on: (.*)", _said(report))
    shown = report.table[0].removesuffix(":") if report.table else ""
    shown = shown.split(", question ")[0]  # one of several calls
    if shown and not getattr(report.exercise, "display", None):
        if right and shown in right[1].split("; "):
            yield f"{shown} is said to be right, and is shown"
        if wrong and shown not in wrong[1].split("; "):
            yield f"{shown} is not said to be wrong, and is shown"
