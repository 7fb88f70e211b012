"""The problem sets: their form, their own solutions, what a learner meets first."""

import ast
import csv
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pytest
import torch
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from problem_sets import ROOT, SETS, each_set, handed_in, read

from gpt2_lesson import checks
from gpt2_lesson.authoring import notebooks
from gpt2_lesson.checks import hints
from gpt2_lesson.checks.answers import judge
from gpt2_lesson.classroom.exam import exam, hidden_tests, literal
from gpt2_lesson.classroom.problem_sets import (
    BY_HAND,
    CHECK,
    EXERCISES,
    SOURCES,
    differences,
    exercises,
    find,
    is_answer,
    last_line,
    place,
    problem_sets,
    source,
)
from gpt2_lesson.classroom.submissions import read_release
from gpt2_lesson.cli import main

MODEL = "01_attention"
LESSONS = {path.stem for path in notebooks.lessons(ROOT / "notebooks")}
META = re.compile(
    r"^\*(?P<kind>predict|implement|debug|measure|open)\* · difficulty "
    r"(?=.{5} )●{1,5}○{0,4} · importance [1-3] of 3 · (?P<minutes>\d+) minutes$",
    re.M,
)
SOLUTION = re.compile(
    r"### BEGIN SOLUTION\n(.*?)(?:### INSTEAD.*?)?### END SOLUTION", re.S
)


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch) -> None:
    """Keep progress and settings of a test to itself."""
    monkeypatch.setenv("GPT2_LESSON_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.setattr(hints, "_memory", {})
    yield
    checks.settings.mode, checks.settings.partial = "public", 0
    plt.close("all")


def run_all(notebook: NotebookNode, capsys) -> dict[str, tuple[object, str]]:
    """Return each code cell's last value, and what it printed, run in this process.

    A kernel would do the same, and start for three seconds. An error, or a word on
    stderr, which costs points in a class, fails the test.
    """
    found, space = {}, {"__name__": "__main__"}
    with torch.random.fork_rng():
        for cell in notebook.cells:
            if cell.cell_type == "code":
                capsys.readouterr()
                value = run_cell(cell.source, f"<{cell.id}>", space)
                out, err = capsys.readouterr()
                assert err == "", f"cell #{cell.id} writes to stderr"
                found[cell.id] = value, out
    return found


def run_cell(code: str, name: str, space: dict) -> object:
    """Run a cell; return its last value, as a notebook would show it."""
    body = ast.parse(code).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), name, "exec"), space)
    if last is not None:
        return eval(compile(ast.Expression(last.value), name, "eval"), space)


def graded(notebook: NotebookNode) -> dict[str, re.Match]:
    """Return the cells with a check, by id."""
    return {
        cell.id: match
        for cell in notebook.cells
        if (match := CHECK.match(last_line(cell)))
    }


# What is stored, and its form


def test_exercises_are_in_step_with_their_sources() -> None:
    assert differences(ROOT, SETS) == []


@each_set
def test_a_set_belongs_to_a_lesson_and_says_so(name: str) -> None:
    first = read(SOURCES, name).cells[0].source
    assert name in LESSONS
    assert re.match(rf"# Problem set {name[:2]}: \S", first)
    assert f"(../../{name}.ipynb)" in first
    how = first[first.index("## How to work") :]
    model = read(SOURCES, MODEL).cells[0].source.split("\n\n", 2)[2]
    assert how.replace(f"{name[:2]}.2", f"{MODEL[:2]}.2") == model


@each_set
def test_exercises_have_their_parts_in_order(name: str) -> None:
    parts: list[list[NotebookNode]] = []
    for cell in read(SOURCES, name).cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            parts.append([])
        if parts:
            parts[-1].append(cell)
    *asked, end = parts
    assert 3 <= len(asked) <= 7
    assert end[0].source.startswith("## What you have now")
    assert last_line(end[-1]) == "checks.progress()"
    minutes = 0
    for number, part in enumerate(asked, start=1):
        first = part[0].source
        assert first.startswith(f"## {name[:2]}.{number} "), first[:40]
        meta = META.search(first)
        assert meta, f"no meta line in {name[:2]}.{number}"
        assert first.splitlines()[2] == meta[0]
        minutes += int(meta["minutes"])
        answers = [i for i, cell in enumerate(part) if is_answer(cell)]
        judged = [
            i
            for i, cell in enumerate(part)
            if CHECK.match(last_line(cell)) or BY_HAND.match(cell.source)
        ]
        assert answers and judged and answers[0] <= judged[0]
        asks = [
            match["check"] or match["number"]
            for cell in part
            if (match := CHECK.match(last_line(cell)))
        ]
        assert tuple(asks) == hints.SETS[f"{name[:2]}.{number}"]
        for cell in part:  # hints come from checks.hint alone
            assert "<summary>Hint" not in cell.source
            assert cell.source.count("</details>") == cell.source.count("<details>")
    said = re.search(r"about (\d+) minutes", read(SOURCES, name).cells[0].source)
    assert abs(int(said[1]) - minutes) <= 5, f"{minutes} minutes in all"


@each_set
def test_what_explains_a_prediction_is_folded(name: str) -> None:
    on = judged = shown = False
    for cell in read(SOURCES, name).cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            on, judged, shown = "*predict*" in cell.source, False, False
        elif on and cell.cell_type == "code":
            shown = judged  # the cell after the check
            judged = judged or bool(CHECK.match(last_line(cell)))
        elif on and shown and not cell.source.startswith("("):
            assert cell.source.startswith(
                "<details><summary>Why (after your prediction)</summary>\n\n"
            )


@each_set
def test_each_check_asks_for_what_a_cell_before_it_answers(name: str) -> None:
    given: set[str] = set()
    for cell in read(EXERCISES, name).cells:
        check = CHECK.match(last_line(cell))
        if check:
            assert check["answer"] in given, f"{check['answer']} is defined nowhere"
            judge = checks.all_exercises()[check["check"] or check["number"]]
            assert judge.lesson == name[:2] and int(check["points"]) > 0
            assert cell.metadata.nbgrader.points == int(check["points"])
            assert cell.metadata.nbgrader.locked and not cell.metadata.editable
            assert len(cell.source.splitlines()) == 1, "a check stands alone"
        elif cell.cell_type == "code":
            given |= {
                node.id
                for node in ast.walk(ast.parse(cell.source))
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            }
            given |= {
                node.name
                for node in ast.parse(cell.source).body
                if isinstance(node, ast.FunctionDef | ast.ClassDef)
            }


@each_set
def test_the_grader_reads_the_same_checks(name: str) -> None:
    found = {
        one.grade_id: (one.name, one.variable, one.points)
        for one in read_release(place(ROOT, EXERCISES, name)).exercises
        if one.kind != "by hand"
    }
    assert found == {
        cell_id: (
            match["check"] or match["number"],
            match["answer"],
            int(match["points"]),
        )
        for cell_id, match in graded(read(EXERCISES, name)).items()
    }


@each_set
def test_every_answer_of_the_lesson_is_asked_for(name: str) -> None:
    asked = {match["number"] for match in graded(read(SOURCES, name)).values()}
    known = {one for one in checks.all_exercises() if re.match(rf"{name[:2]}\.\d", one)}
    assert asked - {None} == known


def told(value: object, precision: str) -> object:
    """Return a right value rounded as an exercise asks for."""
    count, unit = (precision.split() + [""])[:2]
    number = {"one": 1, "two": 2, "three": 3, "5%": 0}[count]
    if isinstance(value, dict):
        return {key: told(part, precision) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [told(part, precision) for part in value]
    if not isinstance(value, float) or count == "5%":
        return value
    return (
        float(f"{value:.{number}g}") if unit == "significant" else round(value, number)
    )


@each_set
def test_the_precision_that_is_judged_is_asked_for(name: str) -> None:
    """What is rounded as the exercise says is right; and it does say so."""
    text, number = {}, ""
    for cell in read(SOURCES, name).cells:
        heading = re.match(r"## (\d\d\.\d) ", cell.source)
        number = heading[1] if heading else number
        text[number] = text.get(number, "") + cell.source
    for match in graded(read(SOURCES, name)).values():
        exercise = checks.all_exercises()[match["number"] or match["check"]]
        if not match["number"] or exercise.test and not exercise.rtol:
            continue
        inexact = exercise.decimals is not None or exercise.rtol or exercise.atol
        assert bool(inexact) == bool(exercise.precision), exercise.name
        if inexact:
            what = exercise.precision.rpartition(" ")[0]
            assert what in text[exercise.name[:5]].lower(), exercise.name
            right = told(exercise.wanted(), what)
            assert judge(exercise, right).passed


@each_set
def test_predictions_have_names_for_wrong_ones_and_show_nothing_first(
    name: str,
) -> None:
    for match in graded(read(SOURCES, name)).values():
        exercise = checks.all_exercises()[match["number"] or match["check"]]
        if getattr(exercise, "predict", False):
            assert len(exercise.wrong) >= 3, exercise.name
            for mistake in exercise.mistakes:
                assert all((mistake.name, mistake.why, *exercise.hints_for(mistake))), (
                    mistake.id
                )


def bare(text: str) -> set[str]:
    """Return the lines of a text without margins, comments and the shortest ones."""
    lines = {line.strip("# ").split("  #")[0].strip() for line in text.splitlines()}
    return {line for line in lines if len(line) > 8}


@each_set
def test_no_solution_is_left_in_what_learners_open(name: str) -> None:
    cells, made = read(SOURCES, name).cells, read(EXERCISES, name).cells
    whole = "\n".join(cell.source for cell in cells)
    seen = "\n".join(cell.source for cell in made)
    given = bare(SOLUTION.sub("", whole))
    for part in re.findall(r"### INSTEAD\n(.*?)### END SOLUTION", whole, re.S):
        given |= bare(part)
    for region in SOLUTION.findall(whole):
        assert (bare(region) - given) & bare(seen) == set()
    assert "BEGIN" not in seen and "INSTEAD" not in seen
    assert [cell.id for cell in cells] == [cell.id for cell in made]


# Run from top to bottom


@each_set
def test_the_sets_own_solutions_get_all_points(name: str, capsys) -> None:
    notebook = read(SOURCES, name)
    found = run_all(notebook, capsys)
    for cell_id, check in graded(notebook).items():
        value, said = found[cell_id]
        assert value == int(check["points"]), said
        assert said.startswith("[right]"), said


@each_set
def test_a_fresh_sheet_runs_calmly_and_gets_nothing(name: str, capsys) -> None:
    notebook = read(EXERCISES, name)
    found = run_all(notebook, capsys)
    for cell_id in graded(notebook):
        value, said = found[cell_id]
        assert value == 0
        assert re.match(r"\[ \.\.\. \] .*: not (written|repaired) yet\n", said), said


@each_set
def test_an_exam_has_hidden_tests_that_the_solutions_pass(name: str, capsys) -> None:
    notebook = exam(read(SOURCES, name), seed=11)
    found = run_all(notebook, capsys)
    text = "\n".join(cell.source for cell in notebook.cells)
    assert not re.search(r"<summary>Hint|checks\.(hint|progress)|is kept", text)
    assert checks.settings.mode == "exam"
    for cell_id, check in graded(notebook).items():
        assert found[cell_id][0] == int(check["points"])


# The command


def answer_of(*lines: str) -> NotebookNode:
    return new_code_cell("\n".join(lines), id="a-cell")


STUBS = [
    (
        [
            "def f(x):",
            '    """Do."""',
            "    ### BEGIN SOLUTION",
            "    return x",
            "    ### END SOLUTION",
        ],
        'def f(x):\n    """Do."""\n    # your code here\n    raise NotImplementedError',
    ),
    (
        [
            "sizes = [1]",
            "### BEGIN SOLUTION",
            "import math",
            "_one = 1",
            "a, b = 2, 3",
            "c: int = 4",
            "def d():",
            "    e = 5",
            "### END SOLUTION",
        ],
        "sizes = [1]\na = ...  # your answer here\nb = ...  # your answer here\n"
        "c = ...  # your answer here\nd = ...  # your answer here",
    ),
    (
        [
            "### BEGIN SOLUTION",
            "def f(x):",
            "    return x",
            "### INSTEAD",
            "# def f(x):",
            "#",
            "#     return 2 * x  # no",
            "### END SOLUTION",
            "f(1)",
        ],
        "def f(x):\n\n    return 2 * x  # no\nf(1)",
    ),
    (
        [
            "class A:",
            "    ### BEGIN SOLUTION",
            "    x = 1",
            "    ### INSTEAD",
            "    # x = ...",
            "    ### END SOLUTION",
        ],
        "class A:\n    x = ...",
    ),
]


@pytest.mark.parametrize(("lines", "stub"), STUBS)
def test_stubs(tmp_path: Path, lines: list[str], stub: str) -> None:
    made = put(tmp_path, answer_of(*lines), new_code_cell("checks.f(f).points(2)"))
    exercise = nbformat.reads(made["01_toy"][1], as_version=4)
    assert exercise.cells[0].source == stub
    assert exercise.cells[1].id == "f-check"


def put(root: Path, *cells: NotebookNode) -> dict[str, tuple[str, str]]:
    """Write a set of these cells, and return what is made of it."""
    path = place(root, SOURCES, "01_toy")
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=list(cells)), path)
    return exercises({"01_toy": source(path)})


def test_a_heading_begins_a_cell(tmp_path: Path) -> None:
    made = put(tmp_path, new_markdown_cell("An end.\n\n## 01.2 Next\n\n*open*"))
    cells = nbformat.reads(made["01_toy"][0], as_version=4).cells
    assert [cell.source for cell in cells] == ["An end.", "## 01.2 Next\n\n*open*"]


def test_ids_are_named_after_answers_and_never_after_solutions(tmp_path: Path) -> None:
    region = "### BEGIN SOLUTION\nBecause of spies.\n### END SOLUTION"
    by_hand = f"<!-- by hand: 3 points -->\n**Why?**\n\n{region}"
    made = put(
        tmp_path,
        new_code_cell(
            "def num_heads():\n    ### BEGIN SOLUTION\n    return 1\n"
            "    ### END SOLUTION"
        ),
        new_code_cell("checks.num_heads(num_heads).points(2)"),
        new_markdown_cell(by_hand),
        new_markdown_cell(by_hand),
        new_code_cell("### BEGIN SOLUTION\nprint('secret')\n### END SOLUTION"),
    )
    cells = nbformat.reads(made["01_toy"][1], as_version=4).cells
    assert [cell.id for cell in cells] == [
        "num-heads",
        "num-heads-check",
        "in-words",
        "in-words-2",
        "in-words-3",
    ]
    assert cells[2].source.endswith("**Why?**\n\n*Your answer here.*")
    assert cells[4].source == "# your code here"
    kinds = [
        (
            cell.metadata.nbgrader.grade,
            cell.metadata.nbgrader.solution,
            cell.metadata.nbgrader.locked,
            cell.metadata.nbgrader.get("points"),
        )
        for cell in cells
    ]
    assert kinds == [
        (False, True, False, None),
        (True, False, True, 2),
        (True, True, False, 3),
        (True, True, False, 3),
        (False, True, False, None),
    ]
    assert "spies" not in made["01_toy"][1] and "secret" not in made["01_toy"][1]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (answer_of("checks.f(f).points(2)", "1"), "the last line must be checks.NAME"),
        (
            answer_of("checks.f(lambda x: x).points(2)"),
            "the last line must be checks.NAME",
        ),
        (answer_of("checks.answer(f).points(2)"), "the last line must be checks.NAME"),
        (answer_of("checks.f(f).points(2) * 2"), "the last line must be checks.NAME"),
        (
            answer_of(
                "### BEGIN SOLUTION",
                "f = 1",
                "### END SOLUTION",
                "checks.f(f).points(2)",
            ),
            "a check needs its own cell",
        ),
        (answer_of("### BEGIN SOLUTION", "f = 1"), "a solution needs the lines"),
        (
            answer_of(
                "### BEGIN SOLUTION", "### BEGIN SOLUTION", "f = 1", "### END SOLUTION"
            ),
            "a solution needs the lines",
        ),
        (
            answer_of("f = 1  ### BEGIN SOLUTION", "### END SOLUTION"),
            "a solution needs the lines",
        ),
        (new_markdown_cell("### BEGIN SOLUTION\nyes\n### END SOLUTION"), "needs both"),
        (new_markdown_cell("<!-- by hand: 2 points -->\nWhy?"), "needs both"),
    ],
)
def test_a_wrong_form_is_refused(tmp_path: Path, cell, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        put(tmp_path, cell)


def test_release_writes_what_check_wants_and_the_same_bytes_twice(
    tmp_path: Path, capsys
) -> None:
    shutil.copytree(ROOT / SOURCES / MODEL, tmp_path / SOURCES / MODEL)
    words = ["release", "--root", str(tmp_path)]
    assert main([*words, "--check"]) == 1
    wanted = f"{EXERCISES}/{MODEL}/{MODEL}.ipynb is not what"
    assert wanted in capsys.readouterr().out
    assert main([*words, "01"]) == 0
    made = place(tmp_path, EXERCISES, MODEL)
    assert made.read_bytes() == place(ROOT, EXERCISES, MODEL).read_bytes()
    assert main(words) == 0
    assert capsys.readouterr().out.endswith("nothing changed\n")
    shutil.copytree(made.parent, tmp_path / EXERCISES / "02_gone")
    (tmp_path / EXERCISES / "02_gone" / f"{MODEL}.ipynb").rename(
        tmp_path / EXERCISES / "02_gone" / "02_gone.ipynb"
    )
    assert main([*words, "--check"]) == 1
    assert "02_gone.ipynb has no set" in capsys.readouterr().out


def test_sets_are_found_by_number_word_and_name() -> None:
    for word in (MODEL, MODEL[:2], MODEL[3:]):
        assert find(word, ROOT) == MODEL
    with pytest.raises(FileNotFoundError, match=f"no set '77': there are {SETS[0]}"):
        find("77", ROOT)
    with pytest.raises(FileNotFoundError, match="holds no SET/SET.ipynb"):
        problem_sets(ROOT / "tests")


def test_without_nbgrader_the_command_says_what_to_install(monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "nbgrader.converters", None)
    assert main(["release", "--check"]) == 2
    assert "pip install -e .[classroom]" in capsys.readouterr().err


# Exams


def test_hidden_tests_stand_alone_and_know_right_from_wrong() -> None:
    lines = "\n".join(hidden_tests("attention", 5)("mine"))
    assert "gpt2_lesson" not in lines and lines.count("assert_close") == 3
    assert lines != "\n".join(hidden_tests("attention", 6)("mine"))

    def mine(q, k, v, axis=-1):
        return (q @ k.mT / q.size(-1) ** 0.5).softmax(axis) @ v

    exec(lines, {"torch": torch, "mine": mine})
    with pytest.raises(AssertionError):
        exec(lines, {"torch": torch, "mine": lambda q, k, v: mine(q, k, v, axis=-2)})


def test_what_a_function_prints_costs_nothing_in_an_exam(capsys) -> None:
    notebook = exam(read(SOURCES, MODEL), seed=5)
    (tests,) = [
        cell.source
        for cell in notebook.cells
        if cell.source.endswith("checks.attention(attention).points(4)")
    ]

    def attention(q, k, v):
        print("noise", file=sys.stderr)
        return (q @ k.mT / q.size(-1) ** 0.5).softmax(-1) @ v

    exec(tests.partition("### END HIDDEN TESTS")[0], {"attention": attention})
    assert capsys.readouterr().err == ""  # nbgrader gives 0 for any


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor([[1, 2], [3, 4]]),
        torch.tensor(0.1),
        torch.tensor([True, False]),
        torch.tensor([torch.inf, -torch.inf, 1e-9, 123456.0]),
        [1, "a\n", None],
        (1.5,),
        float("inf"),
        -0.25,
    ],
)
def test_a_literal_is_the_value_again(value: object) -> None:
    again = eval(literal(value), {"torch": torch})
    torch.testing.assert_close(again, value) if isinstance(
        value, torch.Tensor
    ) else again == value
    assert type(again) is type(value)


def test_an_exam_is_written_for_nbgrader_and_gives_nothing_away(
    tmp_path: Path, capsys
) -> None:
    shutil.copytree(ROOT / SOURCES / MODEL, tmp_path / SOURCES / MODEL)
    assert main(["release", "01", "--exam", "3", "--root", str(tmp_path)]) == 0
    folder = tmp_path / "grading" / "exam"
    given = place(folder, "exercises", "01_attention").read_text(encoding="utf-8")
    kept = place(folder, "solutions", "01_attention").read_text(encoding="utf-8")
    assert "HIDDEN" in kept and "HIDDEN" not in given and "assert_close" not in given
    assert "Now run the three cases" not in given and "plain average" not in given
    assert not (tmp_path / EXERCISES).exists()


# In a class


def students(name: str) -> dict[str, NotebookNode]:
    """Return notebooks: right, not begun, wrong, and one that an editor has torn."""
    found = {
        "right": handed_in(name),
        "blank": handed_in(name, written=False),
        "wrong": handed_in(name),
        "torn": handed_in(name),
    }
    right, wrong, torn = (found[one] for one in ("right", "wrong", "torn"))
    for cell in right.cells:  # noise costs nothing
        cell.source = cell.source.replace(
            "    scores =",
            "    import warnings\n    warnings.warn('old')\n    scores =",
            1,
        )
    for cell in wrong.cells:
        cell.source = cell.source.replace(".softmax(-1)    ", ".softmax(-2)    ")
    for cell in torn.cells:
        cell.metadata = nbformat.from_dict({})
    torn.cells = [cell for cell in torn.cells if cell.id != "largest-check"]
    return found


@pytest.mark.slow
def test_a_class_is_graded_by_nbgrader(tmp_path: Path) -> None:
    name = MODEL
    shutil.copy(ROOT / "nbgrader_config.py", tmp_path)
    shutil.copytree(ROOT / SOURCES / name, tmp_path / SOURCES / name)
    assert nbgrader(tmp_path, "generate_assignment", name)
    assert (
        place(tmp_path, EXERCISES, name).read_bytes()
        == place(ROOT, EXERCISES, name).read_bytes()
    )
    for student, notebook in students(name).items():
        path = place(tmp_path, f"grading/submitted/{student}", name)
        path.parent.mkdir(parents=True)
        nbformat.write(notebook, path)
    said = nbgrader(tmp_path, "autograde", name)
    assert re.search(r"torn, 01_attention: cells attention, .* had lost", said)
    assert "torn, 01_attention: cells largest-check are missing" in said
    assert nbgrader(tmp_path, "generate_feedback", name)
    assert nbgrader(tmp_path, "export")
    with (tmp_path / "grades.csv").open(encoding="utf-8") as file:
        scores = {
            row["student_id"]: float(row["raw_score"]) for row in csv.DictReader(file)
        }
    assert scores == {"right": 13, "blank": 0, "wrong": 9, "torn": 11}
    pages = tmp_path / "grading" / "feedback"
    page = (pages / "wrong" / name / f"{name}.html").read_text(encoding="utf-8")
    assert "behaves like this known mistake: softmax over the queries" in page


def nbgrader(folder: Path, *words: str) -> str:
    """Return what a command of nbgrader, run in a course's folder, writes."""
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *words],
        cwd=folder,
        text=True,
        timeout=300,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stderr
