"""Grades can't be forged: a class of attackers, and what must hold of each."""

import csv
import hashlib
import json
import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hostile.cells import CELLS, SPOILED, WRONG

import gpt2_lesson
from gpt2_lesson import checks
from gpt2_lesson.cli import grade, main
from gpt2_lesson.cli.grading import feedback, protocol, sandbox
from gpt2_lesson.cli.grading.sandbox import IsolationError, Limits, open_sandbox
from gpt2_lesson.cli.grading.submissions import read_release, read_submission

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


# ------------------------------------------------------------------ making notebooks

def cell(source: str, grade_id: str = "", kind: str = "code", **nbgrader) -> dict:
    """Return a cell; with a grade_id nbgrader's metadata."""
    data = {"grade": False, "solution": False, "locked": False, "task": False,
            "schema_version": 3, "grade_id": grade_id, **nbgrader}
    made = {"cell_type": kind, "id": f"cell-{abs(hash(source)) % 10**8}",
            "metadata": {"nbgrader": data} if grade_id else {}, "source": source}
    return made | ({"outputs": [], "execution_count": None} if kind == "code" else {})


def cells(attention: str = RIGHT, causal: str = CAUSAL) -> list[dict]:
    """Return the cells of the set, with these two solutions."""
    return [
        cell("import math\nimport torch\nfrom gpt2_lesson import checks", "imports",
             locked=True),
        cell("# Attention", kind="markdown"),
        cell(attention, "attention-solution", solution=True),
        cell("checks.attention(attention).points(4)", "attention", grade=True,
             locked=True, points=4),
        cell(causal, "causal-solution", solution=True),
        cell("checks.causal_attention(causal_attention).points(2)", "causal",
             grade=True, locked=True, points=2),
        cell("", "essay", "markdown", grade=True, solution=True, points=3),
    ]


def notebook(cells: list[dict]) -> str:
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4,
                       "nbformat_minor": 5})


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


def run_class(root: Path, *options: str) -> dict[str, dict[str, str]]:
    """Grade the class in `root`; return the rows of the table by student."""
    assert main(["grade", SET, "--notebooks", str(root / "notebooks"), "--out",
                 str(root / "grading"), *options]) == 0
    with open(root / "grading" / f"grades_{SET}.csv", newline="") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


def digests(*folders: Path) -> dict[str, str]:
    """Return the SHA-256 and the mode of all files in these folders."""
    return {str(path): f"{path.stat().st_mode} "
            f"{hashlib.sha256(path.read_bytes()).hexdigest()}"
            for folder in folders for path in sorted(folder.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts}


def strangers() -> list[str]:
    """Return the processes that a room left behind."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes()
            user = path.stat().st_uid
        except OSError:
            continue
        if user in sandbox.USERS or b"gpt2_lesson-room" in command:
            found.append(f"{path.name} {user} {command[:200]!r}")
    return found


def isolated() -> bool:
    try:
        open_sandbox(())
    except IsolationError:
        return False
    return True


needs_rooms = pytest.mark.skipif(
    not isolated() and not os.environ.get("GPT2_LESSON_NEEDS_ROOMS"),
    reason="this machine can't build rooms (Linux, util-linux, root or namespaces)")


# ------------------------------------------------------------------ the attackers

class Listener:
    """A server on this machine, to see who gets out."""

    def __init__(self) -> None:
        self.server = socket.create_server(("0.0.0.0", 0))
        self.port = self.server.getsockname()[1]
        self.calls: list[str] = []
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self) -> None:
        while True:
            try:
                connection, address = self.server.accept()
            except OSError:
                return
            self.calls.append(str(address))
            connection.close()


@pytest.fixture(scope="module")
def attacked(request, tmp_path_factory) -> Iterator[dict]:
    """Give a class, graded once, of all attackers that the tests ask for."""
    root = tmp_path_factory.mktemp("class")
    secret = root / "secret.txt"
    secret.write_text("canary-in-a-file-4711")
    os.environ["GPT2_LESSON_SECRET"] = "canary-in-the-environment-4712"
    listener = Listener()
    notebooks = release(root)
    filled = {"SECRET": secret, "REPOSITORY": PACKAGE.parent, "NOTEBOOKS": notebooks,
              "SUBMITTED": root / "grading" / "submitted", "OUT": root / "grading",
              "PORT": listener.port, "HOST": socket.gethostbyname(socket.gethostname()),
              "GRADER": os.getpid()}
    wanted = {item.callspec.params["attack"] for item in request.session.items
              if "attack" in getattr(getattr(item, "callspec", None), "params", {})}
    for name in wanted:
        source = CELLS[name]
        for key, value in filled.items():
            source = source.replace(f"@{key}@", str(value))
        write(root, name, cells(source + ("" if "def attention" in source else WRONG)))
    write(root, "honest", cells())
    kept = [filled["SUBMITTED"], notebooks, PACKAGE / "cli", Path(torch.__file__).parent
            / "nn"]
    before = digests(*kept)
    rows = run_class(root, "--time-limit", "3", "--face", "public")
    yield {"rows": rows, "root": root, "before": before, "listener": listener,
           "after": digests(*kept),
           "secret": secret.read_text()}
    listener.server.close()
    del os.environ["GPT2_LESSON_SECRET"]


@needs_rooms
@pytest.mark.slow
@pytest.mark.parametrize("attack", CELLS)
def test_an_attack_gets_no_point_and_no_secret(attacked, attack: str) -> None:
    row, root = attacked["rows"][attack], attacked["root"]
    assert row["attention"] == "0" and row["isolated"] == "yes"
    assert row["causal"] == "2" or attack in SPOILED
    for path in (root / "grading").rglob("*"):
        if path.is_file() and "submitted" not in path.parts and attack in path.parts:
            text = path.read_text()
            assert "canary-in-" not in text
            assert "WROTE" not in text and "RAISED" not in text
            assert "REMOUNTED" not in text


@needs_rooms
@pytest.mark.slow
def test_the_attacks_leave_nothing_behind(attacked) -> None:
    assert attacked["rows"]["honest"]["attention"] == "4"
    assert attacked["rows"]["honest"]["causal"] == "2"
    assert attacked["after"] == attacked["before"]
    assert attacked["secret"] == "canary-in-a-file-4711"
    assert attacked["listener"].calls == []
    assert not (attacked["root"] / "grading" / "bombed").exists()
    assert strangers() == []
    assert list(Path("/tmp").glob("gpt2_lesson-room-*")) == []


@needs_rooms
@pytest.mark.slow
@pytest.mark.parametrize("attack", ["injects_html"])
def test_a_page_runs_no_script(attacked, attack: str) -> None:
    page = attacked["root"] / "grading" / "feedback" / attack / SET / f"{SET}.html"
    text = page.read_text()
    assert "alert(4)" in text and "alert(6)" in text        # shown, as text
    assert "<script" not in text and "<svg" not in text and "<img" not in text
    assert "script-src" not in text and "default-src 'none'" in text
