"""The sandbox: each part of it, tried by itself."""

import mmap
import os
import struct
from pathlib import Path

import pytest
from hostile.classes import (
    PACKAGE,
    needs_sandboxes,
)

from gpt2_lesson.classroom import sandbox
from gpt2_lesson.classroom.sandbox import IsolationError, Limits
from gpt2_lesson.classroom.system_calls import (
    MACHINES,
    SOCKET,
    SYSTEM_CALLS,
    system_call_filter,
)


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
                at += (
                    yes if loaded >= value and (code == 0x35 or loaded == value) else no
                )
            at += 1

    allowed, refused, unknown, odd = 0x7FFF0000, 0x50001, 0x50026, 0x50061
    for numbers in SYSTEM_CALLS.values():
        assert verdict(numbers[column]) == refused
    assert verdict(0 if column == 0 else 63) == allowed  # read
    assert verdict(425) == verdict(1 << 30) == unknown  # io_uring, x32
    assert [verdict(SOCKET[column], family) for family in (1, 2, 10, 16, 40, 38)] == [
        *4 * [allowed],
        odd,
        odd,
    ]
    assert verdict(39, architecture=0x40000003) == 0x80000000  # i386: killed


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
                    del rights[: len(value)]
                else:
                    kept.append(word)
            return kept

    class Unfiltered(sandbox.Sandbox):
        def _filter(self) -> bytes:
            return struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000)  # all is allowed

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
        "user": (
            "has capabilities",
            without("--reuid", "--bounding-set=-all", "--inh-caps=-all"),
        ),
        "new rights": ("may gain privileges", without("--no-new-privs")),
        "processes": (
            "starts a process",
            sandbox.Sandbox("root", limits=Limits(processes=100)),
        ),
        "memory": (
            "uses memory without limit",
            sandbox.Sandbox("root", limits=Limits(memory=-1)),
        ),
        "files": ("sees a hidden file", Open("root")),
        **{
            f"filter, {wall}": (wall, Unfiltered("root"))
            for wall in (
                "reaches the machine's host",
                "may call add_key",
                "may call keyctl",
                "may call shmget",
                "may call semget",
                "may call msgget",
                "may call mq_open",
                "may call memfd_create",
                "may call ptrace",
                "may call unshare",
                "may call process_vm_readv",
            )
        },
    }


@needs_sandboxes
def test_large_libraries_leave_the_code_as_much_memory(tmp_path: Path) -> None:
    """As those of a PyTorch with CUDA, which take 2.8 GB of addresses."""
    path = tmp_path / "library.so"
    before = Limits().memory
    with path.open("wb") as file:
        file.truncate(3 << 30)  # of holes
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
        assert Limits().memory == before + (3 << 30)


@needs_sandboxes
@pytest.mark.skipif(os.geteuid() != 0, reason="the holes are made as root")
@pytest.mark.parametrize("hole", holes())
def test_a_hole_in_the_wall_is_noticed(hole: str) -> None:
    wall, leaky = holes()[hole]
    with pytest.raises(IsolationError, match=wall):
        sandbox.run_selftest(leaky)
