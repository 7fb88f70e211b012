"""A sandbox for untrusted code: no network, none of your files, no privileges.

Linux namespaces (`unshare`) and `setpriv`, both of util-linux, do the work: as root, or
as any user where the system allows user namespaces. Elsewhere it refuses.

bubblewrap would do most of this with less code here, and was tried. It can't limit the
number of files in /tmp: 3 million empty files, 3 GB of kernel memory, fit into 64 MB.
And without it nothing could be graded, while util-linux is installed everywhere.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from gpt2_lesson.classroom.system_calls import (
    MACHINES,
    SYSTEM_CALLS,
    system_call_filter,
)

USERS = range(61184, 65520)  # nobody's: one is drawn for each sandbox
MEGABYTE = 1 << 20
OUTPUT_KEPT = 20_000  # bytes of what the process prints
OURS = "/sandbox"  # what is ours, seen from within
ENVIRONMENT = {
    "HOME": "/tmp",
    "TMPDIR": "/tmp",
    "MPLBACKEND": "Agg",
    "MPLCONFIGDIR": "/tmp",
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OMP_THREAD_LIMIT": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "PATH": "/usr/bin:/bin",
}
REFUSAL = """\
the submissions would run as you, with your files and your network: refused
{reason}
what helps: Linux with util-linux (unshare, setpriv), as root or with user namespaces
allowed; or the container of notebooks/teaching/grading.md"""


class IsolationError(RuntimeError):
    """This machine can't create the sandbox; the text says why and what helps."""


class SandboxClosed(Exception):
    """The sandbox's process took too long, has ended, or broke the rules."""


def _address_space() -> int:
    """Return 1.6 GB, and as much as the files take that this process has mapped.

    PyTorch's libraries take 0.4 GB of addresses, and 2.8 GB where it includes CUDA.
    """
    mapped, maps = 0, Path("/proc/self/maps")
    for line in maps.read_text("utf-8").splitlines() if maps.exists() else ():
        span, *_, path = line.split(maxsplit=5)
        if path.startswith("/"):
            start, end = (int(place, 16) for place in span.split("-"))
            mapped += end - start
    return 1600 * MEGABYTE + mapped


@dataclass(frozen=True)
class Limits:
    """Limits for the code: bytes, and seconds of processor time."""

    memory: int = field(default_factory=_address_space)  # of addresses
    tmp: int = 64 * MEGABYTE
    file: int = 32 * MEGABYTE
    files: int = 64
    processes: int = 1  # no second process, no second thread
    seconds: int = 600

    def as_rlimits(self) -> dict[str, int]:
        """Return the limits by the names of the module `resource`."""
        return {
            "RLIMIT_AS": self.memory,
            "RLIMIT_FSIZE": self.file,
            "RLIMIT_NOFILE": self.files,
            "RLIMIT_NPROC": self.processes,
            "RLIMIT_CPU": self.seconds,
            "RLIMIT_CORE": 0,
            "RLIMIT_MEMLOCK": 0,
            "RLIMIT_MSGQUEUE": 0,
            "RLIMIT_SIGPENDING": 100,
        }


@dataclass(frozen=True)
class Sandbox:
    """How to start a process in a sandbox. `mode` is "root", "user" or "" (none).

    `hidden` are folders that must not be visible, even inside Python's own folders.
    `cache` is the visible folder of downloads. `scratch` is the folder for mount points
    (None: the temporary folder).
    """

    mode: str
    hidden: tuple[Path, ...] = ()
    cache: Path | None = None
    limits: Limits = field(default_factory=Limits)
    scratch: Path | None = None

    @contextmanager
    def process(self, folder: Path, code: str) -> Iterator["SandboxProcess"]:
        """Yield a process that runs `code` in a sandbox, `folder` first on its path.

        `code` is Python. In it, `channel` is the file descriptor for messages, and
        `course` is the folder. All processes of the sandbox end with the block.
        """
        ours, theirs = socket.socketpair()
        output, to_output = os.pipe()
        root = tempfile.mkdtemp(prefix="sandbox-", dir=self.scratch)
        process = None
        try:
            command, environment = self._command(folder, code, root, theirs.fileno())
            process = subprocess.Popen(
                command,
                env=environment,
                cwd=root,
                stdin=subprocess.DEVNULL,
                stdout=to_output,
                stderr=to_output,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
            theirs.close()
            os.close(to_output)
            running = SandboxProcess(process, ours, output)
            yield running
        finally:
            if process is not None:
                _kill(process)
                running.drained.join(2)
            ours.close()
            shutil.rmtree(root, ignore_errors=True)

    def _command(
        self, folder: Path, code: str, root: str, channel: int
    ) -> tuple[list[str], dict[str, str]]:
        """Return the command that starts `code`, and its environment."""
        course, cache, user = str(folder), str(self.cache), secrets.choice(USERS)
        if self.mode:
            ours = _free_path(OURS)
            course, cache = f"{ours}/course", f"{ours}/cache"
        code = (
            "import site, sys; site.setquit(); site.setcopyright(); "
            f"site.sethelper(); channel, course = {channel}, {course!r}; "
            f"sys.path[:0] = [course]; sys.path += {_site_folders()}\n{code}"
        )
        python = [os.path.realpath(sys.executable), "-I", "-S"]
        command = [*python, "-B", "-u", "-c", code]
        environment = ENVIRONMENT | ({"GPT2_LESSON_CACHE": cache} if self.cache else {})
        if not self.mode:
            return command, environment | {
                "TMPDIR": root,
                "HOME": root,
                "MPLCONFIGDIR": root,
            }
        mounts = self._mounts() | {course: str(folder)}
        mounts |= {cache: str(self.cache)} if self.cache else {}
        plan = {
            "root": root,
            "limits": self.limits.as_rlimits(),
            "links": _links(),
            "mounts": list(mounts.items()),
            "tmp_bytes": self.limits.tmp,
            "user": user,
            "environment": environment,
            "filter": self._filter().hex(),
            "keyctl": SYSTEM_CALLS["keyctl"][MACHINES[os.uname().machine][0]],
            "command": [_tool("setpriv"), *self._rights(user), *command],
        }
        init = str(Path(__file__).with_name("sandbox_init.py"))
        with_us = [_tool("setpriv"), "--pdeathsig", "KILL"]
        return [
            *with_us,
            _tool("unshare"),
            *self._namespaces(),
            *python,
            init,
            json.dumps(plan),
        ], environment

    def _mounts(self) -> dict[str, str | None]:
        """Return what is visible or hidden: the path, and its source or None.

        Every path is resolved, and the deepest one counts: .venv in a hidden folder is
        visible, and the package's copy in .venv is hidden again.
        """
        shown = {str(path): str(path) for path in _python_folders()}
        installed = [Path(folder, "gpt2_lesson") for folder in _site_folders()]
        hidden = {str(path.resolve()): None for path in (*self.hidden, *installed)}
        return hidden | shown

    def secrets(self) -> list[str]:
        """Return existing paths that no process in the sandbox may see."""
        mounts = self._mounts()
        shown = [Path(place) for place, source in mounts.items() if source]
        found = []
        for folder in [Path(place) for place, source in mounts.items() if not source]:
            if folder.is_dir():
                found += [
                    str(path)
                    for path in folder.iterdir()
                    if not any(one.is_relative_to(path) for one in shown)
                ]
        return found

    def _namespaces(self) -> list[str]:
        """Return the arguments of unshare: the new namespaces."""
        user = ["--user", "--map-root-user"] if self.mode == "user" else []
        return [
            *user,
            "--mount",
            "--pid",
            "--net",
            "--ipc",
            "--uts",
            "--cgroup",
            "--fork",
            "--kill-child",
        ]

    def _filter(self) -> bytes:
        """Return the filter of system calls."""
        return system_call_filter(os.uname().machine)

    def _rights(self, user: int) -> list[str]:
        """Return the arguments of setpriv: a user without files or privileges."""
        nobody = ["--reuid", str(user), "--regid", str(user), "--clear-groups"]
        return [
            *(nobody if self.mode == "root" else []),
            "--bounding-set=-all",
            "--inh-caps=-all",
            "--ambient-caps=-all",
            "--no-new-privs",
            "--pdeathsig",
            "KILL",
        ]


class SandboxProcess:
    """A process in a sandbox, to which bytes are sent and from which they are received.

    `output` is the end of what it printed. Nothing that it sends can be trusted.
    """

    def __init__(self, process: subprocess.Popen, channel: socket.socket, output: int):
        self.process, self.channel, self.output = process, channel, b""
        self.drained = threading.Thread(target=self._drain, args=[output], daemon=True)
        self.drained.start()

    def send(self, data: bytes, deadline: float) -> None:
        """Send bytes. Raises SandboxClosed, at the `deadline` of time.monotonic too."""
        with self._told(deadline):
            self.channel.sendall(data)

    def receive(self, deadline: float) -> bytes:
        """Return received bytes, one or more. Raises SandboxClosed."""
        with self._told(deadline):
            data = self.channel.recv(1 << 16)
        if not data:
            raise SandboxClosed(self._end())
        return data

    @contextmanager
    def _told(self, deadline: float) -> Iterator[None]:
        left = deadline - time.monotonic()
        try:
            self.channel.settimeout(max(left, 0.001))
            yield
        except TimeoutError:
            raise SandboxClosed("took too long") from None
        except OSError:
            raise SandboxClosed(self._end()) from None

    def _end(self) -> str:
        """Return how the process ended, as text."""
        try:
            status = self.process.wait(2)
        except subprocess.TimeoutExpired:
            return "closed its connection"
        number = -status if status < 0 else status - 128
        with suppress(ValueError):
            return f"was ended by {signal.Signals(number).name}"
        return f"ended the process (status {status})"

    def _drain(self, output: int) -> None:
        """Read what is printed and keep the end, so that the pipe never fills up."""
        with os.fdopen(output, "rb", buffering=0) as stream:
            while data := stream.read(1 << 16):
                self.output = (self.output + data)[-OUTPUT_KEPT:]


def open_sandbox(
    hidden: tuple[Path, ...] = (),
    cache: Path | None = None,
    scratch: Path | None = None,
) -> Sandbox:
    """Return a sandbox that has passed the self-test.

    Raises IsolationError when this machine can't create one.
    """
    reasons = []
    for mode in ["root", "user"] if os.geteuid() == 0 else ["user"]:
        sandbox = Sandbox(mode, hidden, cache, scratch=scratch)
        try:
            run_selftest(sandbox)
            return sandbox
        except (IsolationError, OSError) as error:
            reasons.append(f"as {'root' if mode == 'root' else 'a user'}: {error}")
    raise IsolationError(REFUSAL.format(reason="\n".join(reasons)))


def run_selftest(sandbox: Sandbox) -> None:
    """Run the self-test inside. Raises IsolationError, naming what is not isolated."""
    if sys.platform != "linux":
        raise IsolationError(f"needs Linux, this is {sys.platform}")
    code = Path(__file__).with_name("selftest.py").read_text(encoding="utf-8")
    code += f"\nmain(channel, course, {sandbox.secrets()!r}, {SYSTEM_CALLS!r})\n"
    said = b""
    with tempfile.TemporaryDirectory(dir=sandbox.scratch) as folder:
        os.chmod(folder, 0o755)
        with sandbox.process(Path(folder), code) as process:
            with suppress(SandboxClosed):
                while True:
                    said += process.receive(time.monotonic() + 60)
            process.drained.join(2)
            text = (said or process.output).decode("utf-8", "replace").strip()
    if said != b"isolated":
        raise IsolationError(text.splitlines()[-1] if text else "it says nothing")


def _kill(process: subprocess.Popen) -> None:
    """Kill the sandbox's first process, and with it all others, then `unshare`.

    The pid namespace dies with its first process, whatever it left running.
    """
    for child in _children(process.pid):
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(2)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _children(pid: int) -> list[int]:
    """Return the process ids of the children of `pid`."""
    try:
        words = Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split()
    except OSError:
        return []
    return [int(word) for word in words]


def _free_path(path: str) -> str:
    """Return `path`, with underscores added until no such path exists."""
    while os.path.lexists(path):
        path += "_"
    return path


def _site_folders() -> list[str]:
    """Return the folders of packages, in Python's order: torch's, and every `site`."""
    import torch

    named = [
        path
        for path in map(Path, sys.path)
        if path.name in ("site-packages", "dist-packages") and path.is_dir()
    ]
    return [
        str(path)
        for path in dict.fromkeys(
            path.resolve() for path in (Path(torch.__file__).parents[1], *named)
        )
    ]


def _python_folders() -> set[Path]:
    """Return what Python needs: resolved paths, wherever the environment is.

    The interpreter is the target of the environment's link. Of its folder only programs
    and libraries are visible, since the course may be there, too.
    """
    bases = {Path(sys.executable).resolve().parents[1], Path(sys.base_prefix).resolve()}
    paths = [
        *map(
            Path,
            (
                "/usr",
                "/lib",
                "/lib64",
                "/bin",
                "/sbin",
                "/etc/ld.so.cache",
                "/proc/cpuinfo",
            ),
        ),
        *(base / name for base in bases for name in ("bin", "lib", "lib64")),
    ]
    return {
        *(path for path in paths if path.exists() and not path.is_symlink()),
        *map(Path, _site_folders()),
    }


def _links() -> list[tuple[str, str]]:
    """Return the links in the root folder that point into /usr: /lib -> usr/lib."""
    return [
        (f"/{name}", os.readlink(f"/{name}"))
        for name in ("lib", "lib64", "bin", "sbin")
        if os.path.islink(f"/{name}")
    ]


def _tool(name: str) -> str:
    """Return where util-linux's tool is. Raises IsolationError when it is missing."""
    path = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
    if path is None:
        raise IsolationError(f"the tool {name!r} (package util-linux) is missing")
    return path
