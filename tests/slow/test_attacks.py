"""A class of attackers gets no point, sees no secret, and leaves nothing behind."""

import hashlib
import os
import shutil
import socket
import sysconfig
import threading
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hostile.cells import AS_USER, CELLS, SPOILED, WRONG
from hostile.classes import (
    PACKAGE,
    ROOT,
    SET,
    USER,
    cells,
    grade_as,
    needs_sandboxes,
    release,
    run_class,
    table,
    write,
)

from gpt2_lesson.authoring.notebooks import NOTEBOOKS, lessons
from gpt2_lesson.classroom import sandbox

pytestmark = [pytest.mark.slow, needs_sandboxes]


def digests(*folders: Path) -> dict[str, str]:
    """Return the SHA-256 and the mode of all files in these folders."""
    return {
        str(path): f"{path.stat().st_mode} "
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}"
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def strangers() -> list[str]:
    """Return the processes that outlived their sandbox: of its user, but not in one."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if path.stat().st_uid in sandbox.USERS:
                parent = (path / "stat").read_text().rpartition(")")[2].split()[1]
                if "unshare" not in Path("/proc", parent, "comm").read_text():
                    found.append(f"{path.name}: {(path / 'cmdline').read_bytes()!r}")
        except OSError:
            continue
    return found


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


@pytest.fixture(scope="module", params=["as root", "as a user"] if ROOT else ["here"])
def attacked(request, folder) -> Iterator[dict]:
    """Give a class, graded once, of all attackers that the tests ask for."""
    root = folder(f"class {request.param}")
    secret = root / "secret.txt"
    secret.write_text("canary-in-a-file-4711")
    secret.chmod(0o600)
    os.environ["GPT2_LESSON_SECRET"] = "canary-in-the-environment-4712"
    listener = Listener()
    notebooks = release(root)
    filled = {
        "SECRET": secret,
        "REPOSITORY": PACKAGE.parent,
        "NOTEBOOKS": notebooks,
        "SUBMITTED": root / "grading" / "submitted",
        "OUT": root / "grading",
        "PORT": listener.port,
        "HOST": socket.gethostbyname(socket.gethostname()),
        "GRADER": os.getpid(),
    }
    wanted = {
        item.callspec.params["attack"]
        for item in request.session.items
        if "attack" in getattr(getattr(item, "callspec", None), "params", {})
    }
    user = request.param == "as a user"
    for name in wanted & set(AS_USER if user else CELLS):
        source = CELLS[name]
        for key, value in filled.items():
            source = source.replace(f"@{key}@", str(value))
        write(root, name, cells(source + ("" if "def attention" in source else WRONG)))
    write(root, "honest", cells())
    kept = [
        filled["SUBMITTED"],
        notebooks,
        PACKAGE / "classroom",
        Path(torch.__file__).parent / "nn",
    ]
    before = digests(*kept)
    if user:
        grade_as(USER, root, "--time-limit", "5")
        rows = table(root / "grading", SET)
    else:
        rows = run_class(root, "--time-limit", "5", "--mode", "public")
    yield {
        "rows": rows,
        "root": root,
        "before": before,
        "listener": listener,
        "after": digests(*kept),
        "secret": secret.read_text(),
    }
    listener.server.close()
    del os.environ["GPT2_LESSON_SECRET"]


@pytest.mark.parametrize("attack", CELLS)
def test_an_attack_gets_no_point_and_no_secret(attacked, attack: str) -> None:
    if attack not in attacked["rows"]:
        assert attack not in AS_USER
        return
    row, root = attacked["rows"][attack], attacked["root"]
    assert row["attention"] == "0" and row["isolated"] == "yes"
    assert row["causal"] == "2" or attack in SPOILED
    for path in (root / "grading").rglob("*"):
        if path.is_file() and "submitted" not in path.parts and attack in path.parts:
            text = path.read_text()
            for word in ("canary-in-", "WROTE", "RAISED", "REMOUNTED", "REACHED"):
                assert word not in text


def test_the_attacks_leave_nothing_behind(attacked) -> None:
    assert attacked["rows"]["honest"]["attention"] == "4"
    assert attacked["rows"]["honest"]["causal"] == "2"
    assert attacked["after"] == attacked["before"]
    assert attacked["secret"] == "canary-in-a-file-4711"
    assert attacked["listener"].calls == []
    assert not (attacked["root"] / "grading" / "bombed").exists()
    assert strangers() == []


@pytest.mark.parametrize("attack", ["injects_html"])
def test_a_page_runs_no_script(attacked, attack: str) -> None:
    if attack not in attacked["rows"]:
        return
    page = attacked["root"] / "grading" / "feedback" / attack / SET / f"{SET}.html"
    text = page.read_text()
    assert "alert(4)" in text and "alert(6)" in text  # shown, as text
    assert "<script" not in text and "<svg" not in text and "<img" not in text
    assert "script-src" not in text and "default-src 'none'" in text


LAYOUTS = {  # where the course is, and where its environment
    "inside": ("course", "course/.venv"),
    "spaces": ("my köurse (2)/course", "my köurse (2)/course/my env"),
    "around": ("env/course", "env"),
    "the course itself": ("course", "course"),
}


@pytest.mark.parametrize(
    ("layout", "user"),
    [("inside", 0), *((layout, USER if ROOT else 0) for layout in LAYOUTS)],
)
def test_the_environment_may_be_anywhere(folder, layout: str, user: int) -> None:
    """As the README makes it, and elsewhere: what is needed is seen, no answer is."""
    place = folder(f"{layout} {user}")
    course, env = (place / part for part in LAYOUTS[layout])
    shutil.copytree(
        PACKAGE, course / "gpt2_lesson", ignore=shutil.ignore_patterns("__pycache__")
    )
    venv.create(env, symlinks=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(env)}))
    release(course)
    for path in lessons(NOTEBOOKS):
        shutil.copy(path, course / "notebooks")
    write(course, "ada", cells())
    write(
        course,
        "eve",
        cells(CELLS["reads_the_answer_file"].replace("@REPOSITORY@", str(course))),
    )
    grade_as(
        user,
        course,
        package=course,
        python=env / "bin" / "python",
        binds={site: Path(torch.__file__).parents[1]},
    )
    rows = table(course / "grading", SET)
    assert (rows["ada"]["total"], rows["eve"]["total"]) == ("6", "2")
