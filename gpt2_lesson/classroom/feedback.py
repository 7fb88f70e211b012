"""The results: a table for the teacher and a page for each student."""

import csv
import html
import io
import json
import math
from pathlib import Path

from gpt2_lesson.classroom.grader import Marks, clean
from gpt2_lesson.classroom.submissions import Release, Submission
from gpt2_lesson.files import atomic_write

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto;
       padding: 0 1rem; color: #222222; background: #ffffff; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .4rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
pre { font-size: .85rem; overflow-x: auto; background: #f5f5f5; padding: .6rem; }
pre.text { white-space: pre-wrap; overflow-wrap: anywhere; }
table { border-collapse: collapse; } td, th { padding: .15rem 1rem .15rem 0;
       text-align: left; } td:nth-child(n+2) { text-align: right; }
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


# ------------------------------------------------------------------ one student


def record(
    submission: Submission, marks: Marks, release: Release, key: str, isolated: bool
) -> dict:
    """Return the stored result of a submission: plain data, for table and page."""
    return with_points(
        {
            "key": key,
            "student": submission.student,
            "set": release.name,
            "points": {one.grade_id: one.points for one in marks.results},
            "most": {one.grade_id: one.most for one in marks.results},
            "title": release.title,
            "titles": {one.grade_id: one.title for one in release.exercises},
            "warnings": submission.warnings,
            "notes": marks.notes,
            "isolated": isolated,
            "seconds": round(marks.seconds, 2),
            "reports": {one.grade_id: [one.text, one.html] for one in marks.results},
            "written": submission.written,
            "output": marks.output,
        },
        {},
    )


def with_points(kept: dict, given: dict[str, float]) -> dict:
    """Return a stored result with the points `given` by hand, and the new sums.

    The points count only if the text has not changed since the table was written.
    """
    points, notes = dict(kept["points"]), list(kept["notes"])
    for one, value in given.items():
        if kept["read"].get(one) != kept["written"].get(one):
            notes.append(
                f"{one}: {_number(value)} points were given by hand for "
                "another text: read it again"
            )
        else:
            points[one] = value
    done = [one for one, value in points.items() if value is not None]
    return kept | {
        "points": points,
        "notes": notes,
        "total": round(sum(points[one] for one in done), 2),
        "max": sum(kept["most"][one] for one in done),
    }


def mark_read(path: Path) -> None:
    """Record that points in the table now belong to the stored texts."""
    kept = read(path)
    if kept and kept["read"] != kept["written"]:
        write(path, json.dumps(kept | {"read": kept["written"]}, indent=1))


def page(kept: dict) -> str:
    """Return a student's feedback: HTML without scripts; all other text is escaped."""
    name = html.escape(clean(kept["student"]))
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        f"<title>{html.escape(kept['set'])}: {name}</title>",
        f"<style>{STYLE}</style></head>",
        f"<body><h1>{html.escape(kept['title'])}</h1><p>{name}: <strong>"
        f"{_number(kept['total'])} of {_number(kept['max'])} points</strong>"
        f"{_to_come(kept)}</p>",
        "<table><tr><th>exercise</th><th>points</th></tr>",
        *(
            f"<tr><td>{html.escape(_number_of(kept, one))} {_name(one)}</td>"
            f"<td>{_score(kept, one)}</td></tr>"
            for one in kept["points"]
        ),
        "</table>",
    ]
    above = ""
    for one in kept["points"]:
        text, report = kept["reports"][one]
        if kept["titles"][one] != above:
            above = kept["titles"][one]
            parts.append(f"<h2>{html.escape(above)}</h2>")
        parts.append(f"<h3>{_name(one)}: {_score(kept, one)}</h3>")
        parts.append(
            report or _pre(text or kept["written"].get(one, "") or "nothing written")
        )
    if said := [*kept["warnings"], *kept["notes"]]:
        parts.append("<h2>Warnings</h2><ul>")
        parts += [f"<li>{html.escape(clean(one))}</li>" for one in said] + ["</ul>"]
    if not kept["isolated"]:
        parts.append("<p>Graded without isolation.</p>")
    return "\n".join([*parts, "</body></html>\n"])


def _score(kept: dict, one: str) -> str:
    points = kept["points"][one]
    shown = "up to" if points is None else f"{_number(points)} of"
    return f"{shown} {_number(kept['most'][one])}{', by hand' * (points is None)}"


def _to_come(kept: dict) -> str:
    """Return how many points are still to be given, as text; "" for none."""
    more = sum(
        kept["most"][one] for one, points in kept["points"].items() if points is None
    )
    return f", and up to {_number(more)} by hand" if more else ""


def _name(one: str) -> str:
    """Return the name of the exercise of a graded cell: leaks, for leaks-check."""
    return html.escape(one.removesuffix("-check"))


def _number_of(kept: dict, one: str) -> str:
    """Return the number of an exercise: 02.4."""
    return kept["titles"][one].partition(" ")[0]


def _number(value: float) -> str:
    return f"{value:g}"


def _pre(text: str) -> str:
    return f'<pre class="text">{html.escape(clean(text, lines=True))}</pre>'


# ------------------------------------------------------------------ the class


def table(kept: list[dict], release: Release) -> str:
    """Return the grades as CSV, a row for each student, in the given order.

    A cell that a spreadsheet would read as a formula begins with an apostrophe.
    """
    ids = [one.grade_id for one in release.exercises]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["student", "set", *map(cell, ids), "total", "max", "warnings", "isolated"]
    )
    for one in kept:
        points = [one["points"].get(name) for name in ids]
        warnings = "; ".join([*one["warnings"], *one["notes"]])
        writer.writerow(
            [
                cell(one["student"]),
                cell(one["set"]),
                *("by hand" if value is None else _number(value) for value in points),
                _number(one["total"]),
                _number(one["max"]),
                cell(warnings),
                "yes" if one["isolated"] else "no",
            ]
        )
    return out.getvalue()


def given_by_hand(path: Path, release: Release) -> dict[str, dict[str, float]]:
    """Return the points that the teacher wrote into the table: student, cell, points.

    A spreadsheet may have saved the table. Raises ValueError for invalid points.
    """
    if not path.exists():
        return {}
    text = path.read_text(encoding="utf-8-sig")
    first = text.partition("\n")[0]
    rows = csv.DictReader(io.StringIO(text), delimiter=max(",;\t", key=first.count))
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        for one in [one for one in release.exercises if one.kind == "by hand"]:
            value = (row.get(cell(one.grade_id)) or "").strip()
            if value in ("", "by hand"):
                continue
            points = _points(value)
            if not 0 <= points <= one.points:
                raise ValueError(
                    f"{path}: {row.get('student')} has {value!r} in the column "
                    f"{one.grade_id}, expected points from 0 to {_number(one.points)}, "
                    'or "by hand"'
                )
            found.setdefault(row.get("student") or "", {})[one.grade_id] = points
    return found


def _points(text: str) -> float:
    """Return the number in a text, with a decimal point or comma; NaN if invalid."""
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return math.nan


def cell(text: str) -> str:
    """Return a text that is safe in a table that a spreadsheet opens."""
    guarded = f"'{text}" if text.startswith(FORMULA) else text
    return clean(guarded)


# ------------------------------------------------------------------ files


def write(path: Path, text: str) -> None:
    """Write a file atomically; a link at `path` is replaced, not followed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, text, follow_links=False)


def read(path: Path) -> dict | None:
    """Return the stored result of a student, or None if it is missing or unreadable."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return kept if isinstance(kept, dict) and "read" in kept else None
