"""The sandbox holds: a class of attackers, and each wall tried by itself."""

import hashlib
import os
import shutil
import socket
import struct
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
from gpt2_lesson.classroom.sandbox import IsolationError, Limits
from gpt2_lesson.classroom.system_calls import (
    MACHINES,
    SOCKET,
    SYSTEM_CALLS,
    system_call_filter,
)


def digests(*folders: Path) -> dict[str, str]:
    """Return the SHA-256 and the mode of all files in these folders."""
    return {str(path): f"{path.stat().st_mode} "
            f"{hashlib.sha256(path.read_bytes()).hexdigest()}"
            for folder in folders for path in sorted(folder.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts}


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
    filled = {"SECRET": secret, "REPOSITORY": PACKAGE.parent, "NOTEBOOKS": notebooks,
              "SUBMITTED": root / "grading" / "submitted", "OUT": root / "grading",
              "PORT": listener.port, "HOST": socket.gethostbyname(socket.gethostname()),
              "GRADER": os.getpid()}
    wanted = {item.callspec.params["attack"] for item in request.session.items
              if "attack" in getattr(getattr(item, "callspec", None), "params", {})}
    user = request.param == "as a user"
    for name in wanted & set(AS_USER if user else CELLS):
        source = CELLS[name]
        for key, value in filled.items():
            source = source.replace(f"@{key}@", str(value))
        write(root, name, cells(source + ("" if "def attention" in source else WRONG)))
    write(root, "honest", cells())
    kept = [filled["SUBMITTED"], notebooks, PACKAGE / "classroom",
            Path(torch.__file__).parent / "nn"]
    before = digests(*kept)
    if user:
        grade_as(USER, root, "--time-limit", "5")
        rows = table(root / "grading", SET)
    else:
        rows = run_class(root, "--time-limit", "5", "--mode", "public")
    yield {"rows": rows, "root": root, "before": before, "listener": listener,
           "after": digests(*kept),
           "secret": secret.read_text()}
    listener.server.close()
    del os.environ["GPT2_LESSON_SECRET"]


@needs_sandboxes
@pytest.mark.slow
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


@needs_sandboxes
@pytest.mark.slow
def test_the_attacks_leave_nothing_behind(attacked) -> None:
    assert attacked["rows"]["honest"]["attention"] == "4"
    assert attacked["rows"]["honest"]["causal"] == "2"
    assert attacked["after"] == attacked["before"]
    assert attacked["secret"] == "canary-in-a-file-4711"
    assert attacked["listener"].calls == []
    assert not (attacked["root"] / "grading" / "bombed").exists()
    assert strangers() == []


@needs_sandboxes
@pytest.mark.slow
@pytest.mark.parametrize("attack", ["injects_html"])
def test_a_page_runs_no_script(attacked, attack: str) -> None:
    if attack not in attacked["rows"]:
        return
    page = attacked["root"] / "grading" / "feedback" / attack / SET / f"{SET}.html"
    text = page.read_text()
    assert "alert(4)" in text and "alert(6)" in text        # shown, as text
    assert "<script" not in text and "<svg" not in text and "<img" not in text
    assert "script-src" not in text and "default-src 'none'" in text


# ------------------------------------------------------------------ isolation


@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_refuses_what_it_should_on_both_machines(machine: str) -> None:
    column, architecture = MACHINES[machine]
    steps = list(struct.iter_unpack("=HBBI", system_call_filter(machine)))

    def verdict(number: int, first: int = 0, architecture: int = architecture) -> int:
        """Run the filter as the kernel does."""
        at = 0
        while True:
            code, yes, no, value = steps[at]
            if code == 0x06:
                return value
            if code == 0x20:
                loaded = {0: number, 4: architecture, 16: first}[value]
            else:
                at += yes if loaded >= value and (code == 0x35 or loaded == value
                                                  ) else no
            at += 1

    allowed, refused, unknown, odd = 0x7FFF0000, 0x50001, 0x50026, 0x50061
    for numbers in SYSTEM_CALLS.values():
        assert verdict(numbers[column]) == refused
    assert verdict(0 if column == 0 else 63) == allowed               # read
    assert verdict(425) == verdict(1 << 30) == unknown                # io_uring, x32
    assert [verdict(SOCKET[column], family) for family in (1, 2, 10, 16, 40, 38)] == [
        *4 * [allowed], odd, odd]
    assert verdict(39, architecture=0x40000003) == 0x80000000         # i386: killed


def holes() -> dict[str, tuple[str, sandbox.Sandbox]]:
    """Return sandboxes with a hole: (the wall that gives way, the sandbox)."""

    class Leaky(sandbox.Sandbox):
        without: tuple[str, ...] = ()

        def _namespaces(self) -> list[str]:
            return [one for one in super()._namespaces() if one not in self.without]

        def _rights(self, user: int) -> list[str]:
            rights, kept = super()._rights(user), []
            while rights:
                word = rights.pop(0)
                value = rights[:1] if word in ("--reuid", "--regid") else []
                if word in self.without:
                    del rights[:len(value)]
                else:
                    kept.append(word)
            return kept

    class Unfiltered(sandbox.Sandbox):
        def _filter(self) -> bytes:
            return struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000)         # all is allowed

    class Open(sandbox.Sandbox):
        def _mounts(self) -> dict[str, str | None]:
            return super()._mounts() | {str(PACKAGE): str(PACKAGE)}

        def secrets(self) -> list[str]:
            return [str(PACKAGE / "attention.py")]

    def without(*words: str) -> Leaky:
        return type("Leaky", (Leaky,), {"without": words})("root")

    return {
        "net": ("has a network", without("--net")),
        "pid": ("sees other processes", without("--pid")),
        "user": ("has capabilities", without(
            "--reuid", "--bounding-set=-all", "--inh-caps=-all")),
        "new rights": ("may gain privileges", without("--no-new-privs")),
        "processes": ("starts a process", sandbox.Sandbox(
            "root", limits=Limits(processes=100))),
        "memory": ("uses memory without limit", sandbox.Sandbox(
            "root", limits=Limits(memory=-1))),
        "files": ("sees a hidden file", Open("root")),
        **{f"filter, {wall}": (wall, Unfiltered("root")) for wall in (
            "reaches the machine's host", "may call add_key", "may call keyctl",
            "may call shmget", "may call semget", "may call msgget",
            "may call mq_open", "may call memfd_create", "may call ptrace",
            "may call unshare", "may call process_vm_readv")},
    }


@needs_sandboxes
@pytest.mark.skipif(os.geteuid() != 0, reason="the holes are made as root")
@pytest.mark.parametrize("hole", holes())
def test_a_hole_in_the_wall_is_noticed(hole: str) -> None:
    wall, leaky = holes()[hole]
    with pytest.raises(IsolationError, match=wall):
        sandbox.run_selftest(leaky)


LAYOUTS = {  # where the course is, and where its environment
    "inside": ("course", "course/.venv"), "beside": ("course", "env"),
    "spaces": ("my köurse (2)/course", "my köurse (2)/course/my env"),
    "around": ("env/course", "env"), "the course itself": ("course", "course"),
}


@needs_sandboxes
@pytest.mark.slow
@pytest.mark.parametrize("user", [0, USER] if ROOT else [0])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_environment_may_be_anywhere(folder, layout: str, user: int) -> None:
    """As the README makes it, and elsewhere: what is needed is seen, no answer is."""
    place = folder(f"{layout} {user}")
    course, env = (place / part for part in LAYOUTS[layout])
    shutil.copytree(PACKAGE, course / "gpt2_lesson",
                    ignore=shutil.ignore_patterns("__pycache__"))
    venv.create(env, symlinks=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(env)}))
    release(course)
    for path in lessons(NOTEBOOKS):
        shutil.copy(path, course / "notebooks")
    write(course, "ada", cells())
    write(course, "eve", cells(CELLS["reads_the_answer_file"].replace(
        "@REPOSITORY@", str(course))))
    grade_as(user, course, package=course, python=env / "bin" / "python",
             binds={site: Path(torch.__file__).parents[1]})
    rows = table(course / "grading", SET)
    assert (rows["ada"]["total"], rows["eve"]["total"]) == ("6", "2")
