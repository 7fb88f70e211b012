"""Create the sandbox around this process, then run a command in it; part of `sandbox`.

`unshare` starts it in new namespaces, as their root, and it needs only Python itself:
`python -I -S sandbox_init.py PLAN`, where PLAN is JSON. The old file system is not
hidden but removed: the new root is an empty tmpfs, into which only what PLAN names is
mounted, read-only. A filter of system calls covers what namespaces and limits do not:
memory and messages that belong to the kernel.
"""

import ctypes
import json
import os
import resource
import sys

RDONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8
REMOUNT, BIND, REC, PRIVATE, DETACH = 32, 4096, 16384, 1 << 18, 2
DEVICES = ("null", "zero", "full", "random", "urandom")
VIEW = "/view"  # the sandbox's root, within the new root
libc = ctypes.CDLL(None, use_errno=True)


def main(plan: dict) -> None:
    """Mount, change the root, set limits, drop all privileges, become the command."""
    root = plan["root"]
    os.umask(0o022)  # whatever the teacher's is
    with open("/proc/self/oom_score_adj", "w", encoding="utf-8") as file:
        file.write("1000")  # if memory runs out, this goes first
    call("mount", None, b"/", None, REC | PRIVATE, None)
    call(
        "mount",
        b"tmpfs",
        encode(root),
        b"tmpfs",
        NOSUID | NODEV,
        b"size=1m,nr_inodes=4096,mode=755",
    )
    furnish(root + VIEW, plan)
    os.mkdir(root + "/old")
    os.chdir(root)
    call("pivot_root", b".", b"old")
    os.chdir("/")
    call("umount2", b"/old", DETACH)
    os.rmdir("/old")
    call("mount", None, b"/", None, REMOUNT | RDONLY | NOSUID | NODEV, None)
    call("sethostname", b"sandbox", 7)
    os.chroot(VIEW)  # in a chroot nobody makes user namespaces
    os.chdir("/tmp")
    for name, most in plan["limits"].items():
        resource.setrlimit(getattr(resource, name), (most, most))
    libc.syscall(plan["keyctl"], 1, None)  # JOIN_SESSION_KEYRING: a fresh one
    refuse_system_calls(bytes.fromhex(plan["filter"]))
    os.execve(plan["command"][0], plan["command"], plan["environment"])


def furnish(view: str, plan: dict) -> None:
    """Mount what is needed to run Python, and an empty /tmp.

    A mount without a source is an empty folder, which hides what is below. Deeper paths
    are mounted later: a folder may be visible within a hidden one.
    """
    for folder in ("", "/dev", "/tmp"):
        os.mkdir(view + folder)
    call(
        "mount",
        b"tmpfs",
        encode(view + "/tmp"),
        b"tmpfs",
        NOSUID | NODEV | NOEXEC,
        f"size={plan['tmp_bytes']},nr_inodes=2000,mode=1777".encode(),
    )
    empty = []
    for target, source in sorted(plan["mounts"], key=lambda one: one[0].count("/")):
        target = view + target
        if source is not None:
            show(source, target)
        elif os.path.isdir(target):
            call(
                "mount",
                b"tmpfs",
                encode(target),
                b"tmpfs",
                NOSUID | NODEV,
                b"size=64k,nr_inodes=100,mode=755",
            )
            empty.append(target)
    for target in empty:
        call(
            "mount",
            None,
            encode(target),
            None,
            BIND | REMOUNT | RDONLY | NOSUID | NODEV,
            None,
        )
    for name in DEVICES:
        show(f"/dev/{name}", f"{view}/dev/{name}", NOSUID | NOEXEC)
    os.makedirs(view + "/etc", exist_ok=True)
    with open(view + "/etc/passwd", "w", encoding="utf-8") as file:
        file.write(
            "student:x:{0}:{0}::/tmp:/bin/false\nroot:x:0:0::/tmp:/bin/false\n".format(
                plan["user"]
            )
        )
    for link, target in plan["links"]:  # /lib -> usr/lib
        os.symlink(target, view + link)


def show(source: str, target: str, flags: int = RDONLY | NOSUID | NODEV) -> None:
    """Mount a file or a folder at `target`, read-only."""
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if not os.path.exists(target):
            open(target, "ab").close()
    call("mount", encode(source), encode(target), None, BIND, None)
    kept = os.statvfs(target).f_flag & (RDONLY | NOSUID | NODEV | NOEXEC)
    if not flags & NODEV:
        kept &= ~NODEV
    call("mount", None, encode(target), None, BIND | REMOUNT | flags | kept, None)


def refuse_system_calls(code: bytes) -> None:
    """Let the kernel run the filter `code` before each system call, for good."""

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]

    program = Program(len(code) // 8, code)
    call("prctl", 22, 2, ctypes.byref(program), 0, 0)  # PR_SET_SECCOMP, FILTER


def encode(path: str) -> bytes:
    return os.fsencode(path)


def call(name: str, *args: object) -> None:
    """Call the C library's function; raise OSError if it fails."""
    if getattr(libc, name)(*args):
        number = ctypes.get_errno()
        paths = [os.fsdecode(arg) for arg in args if isinstance(arg, bytes)]
        raise OSError(number, f"{name}: {os.strerror(number)}", ", ".join(paths))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
