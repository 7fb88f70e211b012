"""Grading a class: what comes out, whatever is handed in."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import nbformat
import pytest
import torch
from hostile.classes import (
    BLANK,
    CAUSAL,
    PACKAGE,
    RIGHT,
    SET,
    cell,
    cells,
    grade_set,
    needs_sandboxes,
    notebook,
    release,
    run_class,
    table,
    write,
)
from problem_sets import each_set, handed_in

from gpt2_lesson import checks
from gpt2_lesson.checks.diagnosis import diagnose
from gpt2_lesson.checks.exercise import Exercise as ExerciseCheck
from gpt2_lesson.checks.probing import Observation, Probe, observe
from gpt2_lesson.checks.report import Report
from gpt2_lesson.classroom import grade, protocol, sandbox
from gpt2_lesson.cli import main
from gpt2_lesson.files import scratch_folder

# ------------------------------------------------------------------ odd notebooks


def stripped(cells: list[dict]) -> list[dict]:
    return [{**one, "metadata": {}} for one in cells]


def odd_class(root: Path) -> None:
    """Hand in what students hand in, and what they may try."""
    right = cells()
    write(root, "honest", right)
    write(root, "columns", cells(RIGHT.replace("softmax(-1)", "softmax(-2)")))
    write(root, "blank", cells(BLANK, "def causal_attention(q, k, v):\n    ...\n"))
    write(root, "stripped", stripped(right))
    write(root, "stripped and moved", stripped([cell("1 + 1"), *right]))
    edited = cells(BLANK)
    edited[3] = cell(
        "checks.attention(torch.softmax).points(4)",
        "attention",
        grade=True,
        locked=True,
        points=400,
    )
    write(root, "edited", edited)
    write(root, "doubled", [*right[:4], right[3], *right[4:]])
    write(root, "tests first", [right[0], right[3], right[5], right[2], right[4]])
    write(
        root,
        "magics",
        cells(
            "%matplotlib inline\n!pip install x\n?torch\n" + RIGHT, "%%time\n" + CAUSAL
        ),
    )
    write(root, "an error before", cells("1 / 0\n" + RIGHT))
    write(root, "named again", [*right, cell("attention = causal_attention = 3")])
    write(root, "not json", b"{" * 100)
    write(root, "deep json", b"[" * 500_000)
    write(root, "not utf-8", notebook(right).encode("utf-16"))
    write(root, "no notebook", b'{"cells": {"a": 1}}')
    write(root, "odd cells", b'{"cells": [1, null, {"cell_type": 3}]}')
    write(
        root,
        "odd metadata",
        [{**one, "metadata": {"nbgrader": {"grade_id": ["x"]}}} for one in right],
    )
    write(root, "huge number", b'{"cells": ' + b"9" * 100_000 + b"}")
    write(root, "too large", b" " * 21_000_000)
    write(
        root,
        "surrogates",
        [cell("# \ud800", kind="markdown"), *right, cell("x = '\ud800'")],
    )
    write(root, "renamed", right).rename(
        root / "grading/submitted/renamed" / SET / "my solution.ipynb"
    )
    path = write(root, "a link", right)
    path.unlink()
    path.symlink_to(root / "secret.txt")
    path = write(root, "a hard link", right)
    path.unlink()
    os.link(root / "secret.txt", path)
    path = write(root, "a pipe", right)
    path.unlink()
    os.mkfifo(path)
    for student, odd in (
        ("a folder", f"{SET}/{SET}.ipynb/x"),
        ("a file", SET),
        ("a file for a folder", "01_set/x"),
    ):
        path = root / "grading/submitted" / student / odd
        path.parent.mkdir(parents=True)
        path.write_text("x")
    path = write(root, "unreadable", right)
    path.unlink()
    path.symlink_to(path)
    write(
        root,
        "await",
        cells(
            "import asyncio\nawait asyncio.sleep(0)\n"
            "task = asyncio.create_task(asyncio.sleep(0, 3))\n" + RIGHT,
            "%matplotlib inline\nassert await task == 3\n" + CAUSAL,
        ),
    )
    write(root, "no page", right)
    path = root / "grading/feedback/no page" / SET / f"{SET}.html/x"
    path.parent.mkdir(parents=True)
    submitted = root / "grading" / "submitted"
    (submitted / "a linked folder").symlink_to(submitted / "honest")
    (submitted / "nothing").mkdir()
    for name in ODD_NAMES:
        write(root, name, cells(BLANK))


ODD_NAMES = [
    "=cmd|' C calc'!A0",
    "@SUM(1)",
    "-1+1",
    "<script>alert(1)",
    "two\nlines",
    "Zoë 🙂",
    "\udcff not utf-8",
    "--help",
    "a" * 250,
]
ODD = {  # points of attention and causal, and what the warnings must say
    "honest": (4, 2, ""),
    "columns": (2, 2, ""),
    "blank": (0, 0, ""),
    "stripped": (4, 2, "metadata are gone: cells taken by their order"),
    "stripped and moved": (4, 2, "judged at the end by the functions' names"),
    "edited": (0, 2, "the cell attention was edited"),
    "doubled": (4, 2, "the cell attention is there more than once"),
    "tests first": (0, 0, ""),
    "magics": (4, 2, ""),
    "an error before": (0, 2, "ZeroDivisionError: division by zero"),
    "named again": (4, 2, ""),
    "not json": (0, 0, "not JSON"),
    "deep json": (0, 0, "not JSON"),
    "not utf-8": (0, 0, "not UTF-8"),
    "no notebook": (0, 0, "no notebook"),
    "odd cells": (0, 0, "no notebook"),
    "odd metadata": (4, 2, "metadata are gone"),
    "huge number": (0, 0, "not JSON"),
    "too large": (0, 0, "larger than 20 MB"),
    "surrogates": (4, 2, ""),
    "renamed": (4, 2, "the file is called 'my solution.ipynb'"),
    "a link": (0, 0, "is a link: refused"),
    "a hard link": (0, 0, "no regular file"),
    "a pipe": (0, 0, "no regular file"),
    "a linked folder": (0, 0, "is a link: refused"),
    "nothing": (0, 0, "nothing handed in"),
    "await": (4, 2, ""),
    "a folder": (0, 0, "can't be read: Is a directory"),
    "a file": (0, 0, "can't be read: Not a directory"),
    "a file for a folder": (0, 0, "no 01_set.ipynb, and 0 other notebooks"),
    "unreadable": (0, 0, "is a link: refused"),
    "no page": (0, 0, "can't be graded, look at it by hand"),
}


@pytest.fixture(scope="module")
def odd(folder) -> dict:
    """Give a class of odd notebooks, graded once."""
    root = folder("odd")
    (root / "secret.txt").write_text("canary-in-a-file-4711")
    release(root)
    odd_class(root)
    rows = run_class(root, "--partial", "0.5", "--time-limit", "5")
    return {
        "root": root,
        "rows": rows,
        "table": (root / "grading" / f"grades_{SET}.csv").read_text(),
    }


@needs_sandboxes
@pytest.mark.slow
@pytest.mark.parametrize("student", ODD)
def test_an_odd_notebook_is_graded_and_noticed(odd, student: str) -> None:
    attention, causal, warning = ODD[student]
    row = odd["rows"][student]
    assert (float(row["attention"]), float(row["causal"])) == (attention, causal)
    assert float(row["total"]) == attention + causal and row["max"] == "6"
    assert row["essay"] == "by hand"
    page = odd["root"] / "grading/feedback" / student / SET / f"{SET}.html"
    assert student == "no page" or "and up to 3 by hand" in page.read_text()
    assert warning in row["warnings"] and bool(warning) == bool(row["warnings"])


@needs_sandboxes
@pytest.mark.slow
def test_names_do_no_harm(odd) -> None:
    assert "canary" not in odd["table"]
    assert len(odd["rows"]) == len(ODD) + len(ODD_NAMES)
    for row in odd["rows"].values():
        assert all(value[:1] not in tuple("=+-@\t\r") for value in row.values())
    names = list(odd["rows"])
    assert "'=cmd|' C calc'!A0" in names and "two\\x0alines" in names
    pages = [
        path.read_text()
        for path in (odd["root"] / "grading/feedback").rglob("*.html")
        if path.is_file()
    ]
    assert len(pages) == len(names) - 1  # but that of "no page"
    assert not any("<script" in page for page in pages)


# ------------------------------------------------------------------ the command


@pytest.fixture
def course(folder, tmp_path: Path) -> Path:
    """Give a folder with a release, readable by everybody."""
    root = folder(tmp_path.name)
    release(root)
    return root


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grade in this process and without a trial: other tests are about those two."""
    for name in ("mode", "partial"):  # as they were, afterwards
        monkeypatch.setattr(checks.settings, name, getattr(checks.settings, name))
    monkeypatch.setattr(grade, "try_grading", lambda marker: None)
    monkeypatch.setattr(
        grade,
        "_all",
        lambda job, students, jobs: [job.grade(student) for student in students],
    )


@needs_sandboxes
@pytest.mark.slow
def test_an_interrupted_run_goes_on_and_a_changed_file_counts(
    course: Path, monkeypatch
) -> None:
    write(course, "one", cells(BLANK))
    write(course, "two", cells(BLANK))
    first = run_class(course)
    table = (course / "grading" / f"grades_{SET}.csv").read_text()
    results = {
        name: course / "grading/results" / name / f"{SET}.json"
        for name in ("one", "two")
    }
    times = {name: path.stat().st_mtime_ns for name, path in results.items()}
    results["two"].write_text(results["two"].read_text()[:100])  # torn
    again = run_class(course, "--jobs", "1")
    assert again == first
    assert (course / "grading" / f"grades_{SET}.csv").read_text() == table
    assert results["one"].stat().st_mtime_ns == times["one"]  # not run again
    assert results["two"].stat().st_mtime_ns != times["two"]
    shutil.rmtree(course / "grading" / "submitted" / "one")
    write(course, "one", cells())
    assert run_class(course, "--partial", "0.1")["one"]["total"] == "6"
    assert json.loads(results["one"].read_text())["seconds"] > 0
    monkeypatch.setattr(grade, "_all", None)  # nothing to grade: no other process
    assert run_class(course, "--partial", "0.1")["one"]["total"] == "6"


def test_what_is_kept_counts_for_one_course_at_one_place(
    folder, tmp_path: Path, monkeypatch
) -> None:
    package = folder(tmp_path.name) / "gpt2_lesson"
    found = []
    for place, text in ((package, "1"), (package, "2"), (package.with_name("x"), "2")):
        place.mkdir(exist_ok=True)
        (place / "attention.py").write_text(text)
        monkeypatch.setattr(grade, "PACKAGE", place)
        found += [grade._course_digest(), grade._course_digest()]
    assert len(set(found)) == 3 and found[::2] == found[1::2]


@needs_sandboxes
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_leaves_no_process_and_no_folder(
    course: Path, folder, monkeypatch, number: int
) -> None:
    write(course, "loop", cells("while True:\n    pass"))
    temporary = folder(f"tmp {course.name}")
    command = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "gpt2_lesson.cli",
            "grade",
            "01",
            "--notebooks",
            str(course / "notebooks"),
            "--out",
            str(course / "grading"),
        ],
        env=os.environ | {"PYTHONPATH": str(PACKAGE.parent), "TMPDIR": str(temporary)},
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    while command.poll() is None and not (  # until the student's sandbox is there
        any("spawn_main" in one for one in _group(command.pid))
        and list(temporary.glob("*/sandbox-*"))
    ):
        time.sleep(0.1)
    time.sleep(1)
    command.send_signal(number)
    assert command.wait(30) == (130 if number == signal.SIGINT else -number)
    for _ in range(100):
        if not (left := _group(command.pid)):
            break
        time.sleep(0.1)
    assert not left
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    with scratch_folder("grade") as mine:  # as at the next start
        assert list(temporary.iterdir()) == [mine]


def test_a_stop_that_falls_into_a_probe_ends_the_student(monkeypatch) -> None:
    """A probe takes SystemExit for what the function does; a stop must get through."""

    class Job:
        def grade(self, student: str) -> dict:
            return observe(lambda: signal.raise_signal(signal.SIGTERM), Probe("p", ()))

    monkeypatch.setattr(grade, "_job", Job())
    before = signal.signal(signal.SIGTERM, grade._stop)
    try:
        with pytest.raises(SystemExit):
            grade._grade("ada")
    finally:
        signal.signal(signal.SIGTERM, before)


def _group(leader: int) -> list[str]:
    """Return the commands of the living processes of a process group."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            status = (path / "stat").read_text().rpartition(")")[2].split()
            if status[2] == str(leader) and status[0] != "Z":
                found.append((path / "cmdline").read_text())
    return found


@needs_sandboxes
@pytest.mark.slow
def test_an_exam_names_no_mistake(course: Path, at_once) -> None:
    write(course, "ada", cells(RIGHT.replace("softmax(-1)", "softmax(-2)")))
    page = course / "grading" / "feedback" / "ada" / SET / f"{SET}.html"
    run_class(course)
    assert "softmax over the queries" in page.read_text()
    run_class(course, "--mode", "exam")
    assert "softmax over the queries" not in page.read_text()
    assert "your result is off by up to" in page.read_text()


@needs_sandboxes
@pytest.mark.slow
def test_values_come_from_a_sandbox_with_the_lessons(course: Path, at_once) -> None:
    source = (
        "from gpt2_lesson.attention import attention as theirs\n"
        "import numpy as np\n"
        "q, k = torch.zeros(2, 1, 3, 4)\n"
        "weights = theirs(q, k, torch.eye(3).expand(1, 3, 3))[1][0, 0]\n"
        "predicted = {'q is 0': [round(w, 2) for w in weights.tolist()],"
        " 'T = 1': [np.float64(1)], 'one score of 1000': (1, 0, 0.0)}"
    )
    made = [
        cell("import torch\nfrom gpt2_lesson import checks"),
        cell(source, "predicted", solution=True),
        cell(
            'checks.answer("01.1", predicted).points(1)',
            "check",
            grade=True,
            locked=True,
            points=1,
        ),
    ]
    path = course / "notebooks" / "exercises" / SET / f"{SET}.ipynb"
    path.write_text(notebook(made))
    write(course, "ada", made)
    write(
        course,
        "blank",
        [made[0], cell("predicted = ...", "predicted", solution=True), made[2]],
    )
    write(
        course,
        "cheat",
        [
            made[0],
            cell(
                """\
from gpt2_lesson.checks.exercises import attention
predicted = attention.ANSWERS[0].expected""",
                "predicted",
                solution=True,
            ),
            made[2],
        ],
    )
    rows = run_class(course)
    points = {name: row["check"] for name, row in rows.items()}
    assert points == {"ada": "1", "blank": "0", "cheat": "0"}


@needs_sandboxes
@pytest.mark.slow
def test_points_given_by_hand_count_for_the_text_that_they_were_given_for(
    course: Path, at_once, capsys
) -> None:
    made = cells()
    made[-1]["source"] = "Because the rows add up to 1."
    path = write(course, "ada", made)
    write(course, "bob", cells())
    table = course / "grading" / f"grades_{SET}.csv"
    page = course / "grading/feedback/ada" / SET / f"{SET}.html"
    assert run_class(course)["ada"]["essay"] == "by hand"
    was = table.read_text()

    def written(value: str, comma: str = ",") -> dict[str, str]:
        lines = was.replace("by hand", value, 1).split("\n")
        table.write_text("\ufeff" + "\n".join(lines).replace(",", comma))
        return run_class(course)["ada"]

    row = written("2.5")
    assert (row["essay"], row["total"], row["max"]) == ("2.5", "8.5", "9")
    assert "2.5 of 3" in page.read_text() and "by hand" not in page.read_text()
    row = run_class(course)["ada"]  # and so it stays
    assert (row["essay"], row["total"]) == ("2.5", "8.5")
    assert written("1", comma=";")["total"] == "7"  # a spreadsheet's table
    made[-1]["source"] = "Because they do not."
    path.write_text(notebook(made))
    rows = run_class(course)
    assert (rows["ada"]["essay"], rows["ada"]["total"]) == ("by hand", "6")
    assert "another text" in rows["ada"]["warnings"] and not rows["bob"]["warnings"]
    before = table.read_text()
    for value in ("12", "-1", "good", "nan"):
        table.write_text(before.replace("by hand", value, 1))
        assert grade_set(course) == 2
        assert f"ada has '{value}' in the column essay" in capsys.readouterr().err


@needs_sandboxes
@pytest.mark.slow
def test_a_run_cut_off_before_the_table_gives_no_points_to_another_text(
    course: Path, at_once, monkeypatch
) -> None:
    made = cells()
    made[-1]["source"] = "Because the rows add up to 1."
    path = write(course, "ada", made)
    run_class(course)
    table = course / "grading" / f"grades_{SET}.csv"
    table.write_text(table.read_text().replace("by hand", "3"))
    made[-1]["source"] = "Because they do not."
    path.write_text(notebook(made))
    with monkeypatch.context() as cut:
        cut.setattr(grade.feedback, "table", lambda *args: 1 / 0)
        assert grade_set(course) != 0
    row = run_class(course)["ada"]
    assert row["essay"] == "by hand" and "another text" in row["warnings"]
    table.write_text(table.read_text().replace("by hand", "3"))
    row = run_class(course)["ada"]  # read again, the same points
    assert row["essay"] == "3" and not row["warnings"]


@needs_sandboxes
@pytest.mark.slow
def test_a_judge_that_hangs_loses_one_exercise(
    course: Path, at_once, monkeypatch
) -> None:
    from gpt2_lesson.classroom import grader

    def slow(exercise, run, seed=0):
        while exercise.name == "attention":
            pass
        return diagnose(exercise, run, seed)

    write(course, "ada", cells())
    monkeypatch.setattr(grader, "diagnose", slow)
    monkeypatch.setattr(grader, "JUDGING", -270)
    row = run_class(course, "--time-limit", "30")["ada"]
    assert (row["attention"], row["causal"]) == ("0", "2")
    assert "took too long to judge" in row["warnings"]


@needs_sandboxes
@pytest.mark.slow
def test_a_constant_that_the_set_uses_is_there_and_no_function(
    course: Path, at_once
) -> None:
    imports = (
        "import math\nimport torch\nfrom gpt2_lesson import checks\n"
        "from gpt2_lesson.tokenizer import GPT2_SPLIT_PATTERN, Tokenizer"
    )
    made = [cell(imports), *cells()[2:4]]
    path = course / "notebooks" / "exercises" / SET / f"{SET}.ipynb"
    path.write_text(notebook(made))
    for name, line in (
        ("ada", "GPT2_SPLIT_PATTERN.findall('a b')"),
        ("bob", "Tokenizer()"),
        ("eve", "from gpt2_lesson.real_gpt2 import PARAMETER_NAMES as p; p['x']"),
    ):
        source = RIGHT.replace("    return", f"    {line}\n    return")
        write(course, name, [made[0], cell(source, "a", solution=True), made[2]])
    rows = run_class(course)
    points = {name: row["attention"] for name, row in rows.items()}
    assert points == {"ada": "4", "bob": "0", "eve": "0"}


@needs_sandboxes
@pytest.mark.slow
@each_set
def test_the_own_solutions_get_all_points_and_an_untouched_sheet_none(
    name: str, folder, tmp_path: Path, at_once
) -> None:
    grading = folder(tmp_path.name) / "grading"
    students = {"right": True, "untouched": False}
    if name[:2] not in ("01", "11"):  # that of the others: in test_problem_sets.py
        del students["untouched"]
    for student, written in students.items():
        path = grading / "submitted" / student / name / f"{name}.ipynb"
        path.parent.mkdir(parents=True)
        nbformat.write(handed_in(name, written=written), path)
    assert (
        main(
            [
                "grade",
                name,
                "--notebooks",
                str(PACKAGE.parent / "notebooks"),
                "--out",
                str(grading),
            ]
        )
        == 0
    )
    rows = table(grading, name)
    assert rows["right"]["total"] == rows["right"]["max"] != "0"
    assert all(row["total"] == "0" for row in rows.values() if row != rows["right"])
    assert not any(row["warnings"] for row in rows.values())


def test_without_a_sandbox_it_refuses(course: Path, monkeypatch, capsys) -> None:
    write(course, "ada", cells())
    monkeypatch.setattr(sandbox, "_tool", lambda name: "/bin/false")
    assert grade_set(course) == 2
    said = capsys.readouterr().err
    assert "refused" in said and "what helps" in said
    assert not (course / "grading" / f"grades_{SET}.csv").exists()


def test_trust_is_loud_and_marked(course: Path, at_once, capsys) -> None:
    write(course, "ada", cells())
    rows = run_class(course, "--trust-submissions", "--jobs", "1")
    assert rows["ada"]["total"] == "6" and rows["ada"]["isolated"] == "no"
    assert "WARNING" in capsys.readouterr().err
    page = course / "grading" / "feedback" / "ada" / SET / f"{SET}.html"
    assert "without isolation" in page.read_text()


@pytest.mark.parametrize(
    ("source", "points", "said"),
    [
        ("checks.attention(attention)", 4, "must be one line"),
        ("report = checks.attention(attention).points(4)", 4, "must be one line"),
        ("x = 1\nchecks.attention(attention).points(4)", 4, "must be one line"),
        ("checks.attention(lambda q: q).points(4)", 4, "must be one line"),
        ("other.attention(attention).points(4)", 4, "must be one line"),
        ("checks.attention(attention, 3).points(4)", 4, "must be one line"),
        ("checks.attention(attention).points(5)", 4, "gives 5 points"),
        ("checks.attention(attention).points(4)", None, "has the points None"),
        ("checks.no_such(attention).points(4)", 4, "does not exist"),
        ('checks.answer("attention", attention).points(4)', 4, "does not exist"),
    ],
)
def test_a_set_that_cannot_be_graded_is_refused(
    course: Path, capsys, source: str, points: int | None, said: str
) -> None:
    path = course / "notebooks" / "exercises" / SET / f"{SET}.ipynb"
    path.write_text(
        notebook([cell(source, "x", grade=True, locked=True, points=points)])
    )
    write(course, "ada", cells())
    assert grade_set(course) == 2
    assert said in capsys.readouterr().err


def test_half_a_character_is_refused_by_the_files_name(course: Path, capsys) -> None:
    made = [cell("# Attention \ud800", kind="markdown"), *cells()]
    path = course / "notebooks" / "solutions" / SET / f"{SET}.ipynb"
    path.write_text(notebook(made))
    assert main(["release", "01", "--root", str(course)]) == 2
    assert f"{path} is not a notebook: 'utf-8' codec" in capsys.readouterr().err


@needs_sandboxes
@pytest.mark.slow
def test_no_path_of_ours_is_a_users(course: Path, at_once, monkeypatch) -> None:
    write(course, "ada", cells())
    monkeypatch.setattr(sandbox, "OURS", str(course))
    assert run_class(course)["ada"]["total"] == "6"


@needs_sandboxes
@pytest.mark.parametrize("answer", ["right", "wrong"])
def test_a_judge_that_errs_grades_nobody(
    course: Path, monkeypatch, capsys, answer: str
) -> None:
    """As when the lesson's folder was mounted, then hidden: a table of zeros."""
    write(course, "ada", cells())
    monkeypatch.setattr(
        Report, "score", lambda report, most: 0 if answer == "right" else most
    )
    assert grade_set(course) == 2
    assert "the self-test failed, so nobody was graded" in capsys.readouterr().err
    assert not (course / "grading" / f"grades_{SET}.csv").exists()


# ------------------------------------------------------------------ the language

VALUES = [
    None,
    True,
    3,
    -1.5,
    float("inf"),
    "text",
    b"\x00\xff",
    ...,
    (1, [2.0, "x"]),
    {"a": torch.arange(6.0).reshape(2, 3), 1: {2, 3}},
    torch.zeros(0, 5),
    torch.tensor(7),
    torch.tensor([True, False]),
    torch.ones(2, 3).bfloat16(),
    torch.arange(4, dtype=torch.int8).flip(0),
    torch.ones(3, 4).T,
    10**300,
]


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return (
            isinstance(b, torch.Tensor)
            and a.dtype == b.dtype
            and a.shape == b.shape
            and torch.equal(a, b)
        )
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("value", VALUES, ids=str)
def test_a_value_comes_through(value: object) -> None:
    message = protocol.unpack(protocol.pack({"value": value}))
    assert same(message["value"], value)


def test_an_observation_comes_back_whole() -> None:
    from gpt2_lesson.classroom import grader

    seen = Observation(
        value=3,
        message="m",
        where="w",
        changed=(1,),
        repeats=False,
        written=False,
        printed="p",
        drawn=True,
    )
    assert grader._seen(protocol.unpack(protocol.pack({"seen": vars(seen)}))) == seen


def test_what_is_no_plain_data_leaves_only_its_name() -> None:
    value = protocol.unpack(protocol.pack({"value": Path}))["value"]
    assert isinstance(value, protocol.Other) and type(value).__name__ == "type"


def test_2000_damaged_messages_do_no_harm() -> None:
    draw = random.Random(0)
    whole = protocol.pack({"number": 3, "seen": {"value": VALUES}})
    refused = 0
    for _ in range(2000):
        data = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(data))
            data[at : at + draw.randint(0, 3)] = draw.randbytes(draw.randint(0, 3))
        reader = protocol.Reader(1_000_000)
        try:
            for chunk in range(0, len(data), 700):
                reader.feed(bytes(data[chunk : chunk + 700]))
        except protocol.ProtocolError:
            refused += 1
    assert refused > 1000


@needs_sandboxes
def test_a_probe_that_would_take_one_stops_the_grading(
    course: Path, monkeypatch, capsys
) -> None:
    from gpt2_lesson.classroom import grader

    write(course, "ada", cells())
    monkeypatch.setattr(grader, "IN_THE_SANDBOX", ("gpt2_lesson.checks.fakes",))
    monkeypatch.setattr(
        grade,
        "_all",
        lambda job, students, jobs: [job.grade(student) for student in students],
    )
    assert grade_set(course) == 2
    assert "which is not in the sandbox" in capsys.readouterr().err


FUNCTIONS = {
    name: one
    for name, one in checks.all_exercises().items()
    if isinstance(one, ExerciseCheck)
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_constants_seen_with_other_seeds_get_no_point(name: str) -> None:
    """A process that knows no answer, only what others were seen to send."""
    exercise = FUNCTIONS[name]
    for seed in range(100, 108):
        sent, wanted = exercise.expected(seed), exercise.expected(seed + 8)
        assert not all(map(exercise.same, sent, wanted)), seed


@pytest.mark.slow
def test_a_report_from_afar_is_the_report_from_here() -> None:
    """No probe takes an answer into the room, and nothing is lost on the way back."""
    import pickle

    from gpt2_lesson.checks.exercise import Exercise
    from gpt2_lesson.classroom import grader

    for exercise in checks.all_exercises().values():
        if not isinstance(exercise, Exercise):
            continue
        wrong = [exercise.with_mistakes(one.id) for one in exercise.mistakes[:2]]
        for function in (exercise.reference, lambda *args: args[0], *wrong):

            def afar(probe, function=function):
                sent = pickle.loads(grader._pickled({"probe": probe}))["probe"]
                seen = protocol.pack({"seen": vars(observe(function, sent))})
                return grader._seen(protocol.unpack(seen))

            here = diagnose(exercise, partial(observe, function), 5)
            there = diagnose(exercise, afar, 5)
            assert (there.state, there.named) == (here.state, here.named)
