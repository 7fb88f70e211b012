"""A small problem set, what students hand in, and ways to grade it."""

import csv
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import gpt2_lesson
from gpt2_lesson.classroom import sandbox
from gpt2_lesson.cli import main

PACKAGE = Path(gpt2_lesson.__file__).parent
SET = "01_set"
RIGHT = """\
def attention(q, k, v):
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    return scores.softmax(-1) @ v
"""
CAUSAL = """\
def causal_attention(q, k, v):
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))
    seen = torch.ones(scores.shape[-2:]).tril().bool()
    return scores.masked_fill(~seen, -torch.inf).softmax(-1) @ v
"""
BLANK = "def attention(q, k, v):\n    ...\n"


def cell(source: str, grade_id: str = "", kind: str = "code", **nbgrader) -> dict:
    """Return a cell; with a grade_id nbgrader's metadata."""
    data = {
        "grade": False,
        "solution": False,
        "locked": False,
        "task": False,
        "schema_version": 3,
        "grade_id": grade_id,
        **nbgrader,
    }
    made = {
        "cell_type": kind,
        "id": f"cell-{abs(hash(source)) % 10**8}",
        "metadata": {"nbgrader": data} if grade_id else {},
        "source": source,
    }
    return made | ({"outputs": [], "execution_count": None} if kind == "code" else {})


def cells(attention: str = RIGHT, causal: str = CAUSAL) -> list[dict]:
    """Return the cells of the set, with these two solutions."""
    return [
        cell(
            "import math\nimport torch\nfrom gpt2_lesson import checks",
            "imports",
            locked=True,
        ),
        cell("# Attention", kind="markdown"),
        cell(attention, "attention-solution", solution=True),
        cell(
            "checks.attention(attention).points(4)",
            "attention",
            grade=True,
            locked=True,
            points=4,
        ),
        cell(causal, "causal-solution", solution=True),
        cell(
            "checks.causal_attention(causal_attention).points(2)",
            "causal",
            grade=True,
            locked=True,
            points=2,
        ),
        cell("", "essay", "markdown", grade=True, solution=True, points=3),
    ]


def notebook(cells: list[dict]) -> str:
    return json.dumps(
        {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    )


def write(root: Path, student: str, content: str | bytes | list[dict]) -> Path:
    """Write what a student hands in; return the file."""
    content = notebook(content) if isinstance(content, list) else content
    path = root / "grading" / "submitted" / student / SET / f"{SET}.ipynb"
    path.parent.mkdir(parents=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def release(root: Path) -> Path:
    """Write the release and its source; return the folder of the notebooks."""
    for folder, attention in (("exercises", BLANK), ("solutions", RIGHT)):
        path = root / "notebooks" / folder / SET / f"{SET}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(notebook(cells(attention, CAUSAL)))
    return root / "notebooks"


def grade_set(root: Path, *options: str) -> int:
    """Run `gpt2-lesson grade` for the class in `root`; return its exit status."""
    folders = ["--notebooks", str(root / "notebooks"), "--out", str(root / "grading")]
    return main(["grade", SET, *folders, *options])


def run_class(root: Path, *options: str) -> dict[str, dict[str, str]]:
    """Grade the class in `root`; return the rows of the table by student."""
    assert grade_set(root, *options) == 0
    return table(root / "grading", SET)


def table(grading: Path, name: str) -> dict[str, dict[str, str]]:
    """Return the rows of a set's table by student."""
    with open(grading / f"grades_{name}.csv", newline="") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


def can_unshare() -> bool:
    """Return whether this machine lets us make namespaces at all."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    try:
        return (
            subprocess.run(
                ["unshare", *user, "--mount", "--net", "true"], capture_output=True
            ).returncode
            == 0
        )
    except OSError:
        return False


USER = 1234  # nobody here
ROOT = os.geteuid() == 0


def grade_as(
    user: int,
    root: Path,
    *options: str,
    package: Path = PACKAGE.parent,
    python: Path = Path(sys.executable),
    binds: dict[Path, Path] | None = None,
) -> None:
    """Grade the class in `root` with a command of its own, as `user` if we are root.

    It sees folders where `binds` says, {where: folder}. A user may pass the folders
    above Python and the course, even where they are root's.
    """
    open_to_all, keep = {}, Path("/mnt")
    binds = {**(binds or {})}
    if user:
        subprocess.run(["chown", "-R", f"{user}:{user}", root / "grading"], check=True)
        needed = [
            Path(sys.base_prefix),
            Path(sys.prefix),
            PACKAGE.parent,
            package,
            root,
            *map(Path, sandbox._site_folders()),
        ]
        closed = {
            one
            for path in needed
            for one in path.resolve().parents
            if not one.stat().st_mode & 0o001
        }
        open_to_all = {
            path.resolve(): top
            for path in needed
            for top in closed
            if path.resolve().is_relative_to(top) and not closed & set(top.parents)
        }
    quote = shlex.quote
    lines = ["set -e", f"mount -t tmpfs tmpfs {keep}"]
    for i, path in enumerate(open_to_all):
        lines += [f"mkdir {keep}/{i}", f"mount --rbind {quote(str(path))} {keep}/{i}"]
    lines += [
        f"mount -t tmpfs -o mode=755 tmpfs {quote(str(top))}"
        for top in set(open_to_all.values())
    ]
    for i, path in enumerate(open_to_all):
        lines += [
            f"mkdir -p {quote(str(path))}",
            f"mount --rbind {keep}/{i} {quote(str(path))}",
        ]
    lines += [
        f"mount --bind {quote(str(path))} {quote(str(place))}"
        for place, path in binds.items()
    ]
    lines += [
        (
            f"exec setpriv --reuid {user} --regid {user} --clear-groups "
            if user
            else "exec "
        )
        + '"$@"'
    ]
    maps = [] if ROOT else ["--user", "--map-root-user"]
    command = [
        "unshare",
        *maps,
        "--mount",
        "sh",
        "-c",
        "\n".join(lines),
        "sh",
        str(python),
        "-m",
        "gpt2_lesson.cli",
        "grade",
        SET,
        "--notebooks",
        str(root / "notebooks"),
        "--out",
        str(root / "grading"),
        *options,
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=root,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "PYTHONPATH": str(package),
            "GPT2_LESSON_SECRET": os.environ.get("GPT2_LESSON_SECRET", ""),
        },
    )
    assert done.returncode == 0, done.stderr[-3000:]


needs_sandboxes = pytest.mark.skipif(
    not can_unshare() and not os.environ.get("GPT2_LESSON_NEEDS_SANDBOX"),
    reason="this machine lets nobody make namespaces: no sandbox to test",
)
