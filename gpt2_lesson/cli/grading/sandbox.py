"""A room for other people's code: no network, no files of ours, no rights, no way out.

Linux namespaces (`unshare`) and `setpriv`, both of util-linux, do the work: as root, or
as any user where the system allows user namespaces. Elsewhere it refuses.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

USERS = range(61184, 65520)                 # nobody's: one for each room at a time
MEGABYTE = 1 << 20
OUTPUT_KEPT = 20_000                        # bytes of what the room prints
ENVIRONMENT = {
    "HOME": "/tmp", "TMPDIR": "/tmp", "MPLBACKEND": "Agg", "MPLCONFIGDIR": "/tmp",
    "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "OMP_THREAD_LIMIT": "1",
    "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
    "GPT2_LESSON_CACHE": "/cache", "PATH": "/usr/bin:/bin",
}
REFUSAL = """\
the submissions would run as you, with your files and your network: refused
{reason}
what helps: Linux with util-linux (unshare, setpriv), as root or with user namespaces
allowed; or the container of notebooks/teaching/grading.md"""


class IsolationError(RuntimeError):
    """This machine can't build the room; the text says why and what helps."""


class RoomClosed(Exception):
    """The room's process took too long, has ended, or broke the rules."""


@dataclass(frozen=True)
class Limits:
    """What the code in the room may use: bytes, and seconds of the processor."""

    memory: int = 2 << 30
    tmp: int = 64 * MEGABYTE
    file: int = 32 * MEGABYTE
    files: int = 64
    processes: int = 1                      # no second process, no second thread
    seconds: int = 600

    def as_rlimits(self) -> dict[str, int]:
        """Return the limits by the names of the module `resource`."""
        return {"RLIMIT_AS": self.memory, "RLIMIT_FSIZE": self.file,
                "RLIMIT_NOFILE": self.files, "RLIMIT_NPROC": self.processes,
                "RLIMIT_CPU": self.seconds, "RLIMIT_CORE": 0, "RLIMIT_MEMLOCK": 0,
                "RLIMIT_MSGQUEUE": 0}


@dataclass(frozen=True)
class Sandbox:
    """How to start a process in a room. `mode` is "root", "user" or "" (no room).

    `hidden` are folders that must not be seen, even where Python's own folder holds
    them. `shown` are (folder, where it appears) to be seen besides Python.
    """

    mode: str
    hidden: tuple[Path, ...] = ()
    shown: tuple[tuple[Path, str], ...] = ()
    limits: Limits = field(default_factory=Limits)

    @contextmanager
    def room(self, folder: Path, code: str) -> Iterator["Room"]:
        """Give a room in which `code` runs, with `folder` as its /course.

        `code` is Python; it finds the number of the descriptor to talk to us as `door`
        and the folder as `course`. When the block ends all processes of the room do.
        """
        ours, theirs = socket.socketpair()
        output, to_output = os.pipe()
        home = tempfile.mkdtemp(prefix="gpt2_lesson-room-")
        process = None
        try:
            command, environment = self._command(folder, code, home, theirs.fileno())
            process = subprocess.Popen(
                command, env=environment, cwd=home, stdin=subprocess.DEVNULL,
                stdout=to_output, stderr=to_output, pass_fds=[theirs.fileno()],
                start_new_session=True)
            theirs.close()
            os.close(to_output)
            room = Room(process, ours, output)
            yield room
        finally:
            if process is not None:
                _kill(process)
                room.drained.join(2)
            ours.close()
            shutil.rmtree(home, ignore_errors=True)

    def _command(
        self, folder: Path, code: str, home: str, door: int
    ) -> tuple[list[str], dict[str, str]]:
        """Return the words that start `code` in the room, and their environment."""
        course = "/course" if self.mode else str(folder)
        code = (f"import sys; door, course = {door}, {course!r}; "
                f"sys.path[:0] = [course]; sys.path += {_site_folders()}\n{code}")
        python = [sys.executable, "-I", "-B", "-u", "-c", code]
        if not self.mode:
            return python, ENVIRONMENT | {"TMPDIR": home, "HOME": home,
                                          "MPLCONFIGDIR": home}
        plan = {
            "room": home, "limits": self.limits.as_rlimits(), "links": _links(),
            "shown": [*_python_folders(), (str(folder), "/course"),
                      *((str(path), target) for path, target in self.shown)],
            "hidden": [str(path) for path in self._hidden()],
            "tmp_bytes": self.limits.tmp, "user": _user(), "environment": ENVIRONMENT,
            "command": [_tool("setpriv"), *self._rights(), *python],
        }
        enter = str(Path(__file__).with_name("enter.py"))
        python = [os.path.realpath(sys.executable), "-I", "-S"]
        with_us = [_tool("setpriv"), "--pdeathsig", "KILL"]
        return [*with_us, _tool("unshare"), *self._namespaces(), *python, enter,
                json.dumps(plan)], ENVIRONMENT

    def _namespaces(self) -> list[str]:
        """Return unshare's words: which namespaces are new."""
        user = ["--user", "--map-root-user"] if self.mode == "user" else []
        return [*user, "--mount", "--pid", "--net", "--ipc", "--uts", "--cgroup",
                "--fork", "--kill-child"]

    def _rights(self) -> list[str]:
        """Return setpriv's words: a user who owns nothing (as root), and no rights.

        Each process of ours has its own user, since the number of a user's processes
        is limited.
        """
        user = str(_user())
        nobody = ["--reuid", user, "--regid", user, "--clear-groups"]
        return [*(nobody if self.mode == "root" else []), "--bounding-set=-all",
                "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs",
                "--pdeathsig", "KILL"]

    def _hidden(self) -> list[Path]:
        """Return the folders to cover: those given, and installed copies of us."""
        installed = [Path(folder) / "gpt2_lesson" for folder in _site_folders()]
        return [*self.hidden, *(path for path in installed if path.is_dir())]


class Room:
    """A running room: bytes go in and come out, until it closes.

    `output` is the end of what it printed. What it sends is forged until checked.
    """

    def __init__(self, process: subprocess.Popen, door: socket.socket, output: int):
        self.process, self.door, self.output = process, door, b""
        self.drained = threading.Thread(target=self._drain, args=[output], daemon=True)
        self.drained.start()

    def send(self, data: bytes, deadline: float) -> None:
        """Send bytes. Raises RoomClosed, at the `deadline` of time.monotonic too."""
        with self._told(deadline):
            self.door.sendall(data)

    def receive(self, deadline: float) -> bytes:
        """Return some bytes that came, one or more. Raises RoomClosed."""
        with self._told(deadline):
            data = self.door.recv(1 << 16)
        if not data:
            raise RoomClosed(self._end())
        return data

    @contextmanager
    def _told(self, deadline: float) -> Iterator[None]:
        left = deadline - time.monotonic()
        try:
            self.door.settimeout(max(left, 0.001))
            yield
        except TimeoutError:
            raise RoomClosed("took too long") from None
        except OSError:
            raise RoomClosed(self._end()) from None

    def _end(self) -> str:
        """Return how the process ended, in words."""
        try:
            status = self.process.wait(2)
        except subprocess.TimeoutExpired:
            return "closed its door"
        number = -status if status < 0 else status - 128
        with suppress(ValueError):
            return f"was ended by {signal.Signals(number).name}"
        return f"ended the process (status {status})"

    def _drain(self, output: int) -> None:
        """Read what is printed and keep the end of it, so that no pipe is ever full."""
        with os.fdopen(output, "rb", buffering=0) as stream:
            while data := stream.read(1 << 16):
                self.output = (self.output + data)[-OUTPUT_KEPT:]


def open_sandbox(
    hidden: tuple[Path, ...], shown: tuple[tuple[Path, str], ...] = (),
    limits: Limits | None = None,
) -> Sandbox:
    """Return a sandbox that was tried: it starts, and its walls hold.

    Raises IsolationError when this machine can't build one.
    """
    reasons = []
    for mode in ["root", "user"] if os.geteuid() == 0 else ["user"]:
        sandbox = Sandbox(mode, hidden, shown, limits or Limits())
        try:
            try_walls(sandbox)
            return sandbox
        except (IsolationError, OSError) as error:
            reasons.append(f"as {'root' if mode == 'root' else 'a user'}: {error}")
    raise IsolationError(REFUSAL.format(reason="\n".join(reasons)))


def try_walls(sandbox: Sandbox) -> None:
    """Try the room's walls from within. Raises IsolationError if one gives way."""
    if sys.platform != "linux":
        raise IsolationError(f"needs Linux, this is {sys.platform}")
    code = Path(__file__).with_name("walls.py").read_text(encoding="utf-8")
    paths = [str(path) for path in (*sandbox.hidden, Path(__file__).parents[1])]
    said = b""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        with sandbox.room(Path(folder), f"paths = {paths!r}\n{code}") as room:
            with suppress(RoomClosed):
                while True:
                    said += room.receive(time.monotonic() + 20)
            room.drained.join(2)
            text = (said or room.output).decode("utf-8", "replace").strip()
    if said != b"all walls hold":
        raise IsolationError(text.splitlines()[-1] if text else "the room stays silent")


def _kill(process: subprocess.Popen) -> None:
    """Kill the first process of the room, and with it all others, then `unshare`.

    The room's pid namespace dies with its first process, whatever it left running.
    """
    for child in _children(process.pid):
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(2)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _user() -> int:
    """Return the number of the user whom the room of this process runs as."""
    return USERS[os.getpid() % len(USERS)]


def _children(pid: int) -> list[int]:
    """Return the process ids of the children of `pid`."""
    try:
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [int(word) for word in words]


def _site_folders() -> list[str]:
    """Return where torch and the other packages are."""
    import torch

    return sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib"),
                   str(Path(torch.__file__).parents[1])})


def _python_folders() -> list[tuple[str, str]]:
    """Return what Python needs, as (folder, where it appears), none within another."""
    real = Path(os.path.realpath(sys.executable)).parents[1]
    folders = {Path(name) for name in (
        "/usr", sys.prefix, sys.base_prefix, real, *_site_folders())}
    folders |= {path for path in map(Path, ("/lib", "/lib64", "/bin", "/sbin"))
                if path.is_dir() and not path.is_symlink()}
    kept = sorted(path for path in folders if not any(
        other != path and path.is_relative_to(other) for other in folders))
    files = [path for path in map(Path, ("/etc/ld.so.cache", "/proc/cpuinfo"))
             if path.exists()]
    return [(str(path), str(path)) for path in kept + files]


def _links() -> list[tuple[str, str]]:
    """Return the links in the root that lead into /usr: /lib -> usr/lib."""
    return [(f"/{name}", os.readlink(f"/{name}"))
            for name in ("lib", "lib64", "bin", "sbin") if os.path.islink(f"/{name}")]


def _tool(name: str) -> str:
    """Return where util-linux's tool is. Raises IsolationError when it is missing."""
    path = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
    if path is None:
        raise IsolationError(f"the tool {name!r} (package util-linux) is missing")
    return path
