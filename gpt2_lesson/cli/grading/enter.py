"""Build the room around this process, then run a command in it; part of `sandbox`.

It is started by `unshare` in fresh namespaces, as their root, and needs nothing but
Python itself: `python -I -S enter.py PLAN`, where PLAN is JSON. The old file system is
not hidden but gone: the new root is an empty tmpfs, into which only what PLAN names is
mounted, read-only.
"""

import ctypes
import json
import os
import resource
import sys

RDONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8
REMOUNT, BIND, REC, PRIVATE, DETACH = 32, 4096, 16384, 1 << 18, 2
DEVICES = ("null", "zero", "full", "random", "urandom")
VIEW = "/view"                              # the room's root, within the new root
libc = ctypes.CDLL(None, use_errno=True)


def main(plan: dict) -> None:
    """Mount, change the root, set the limits, drop every right, become the command."""
    room = plan["room"]
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")                  # if memory runs out, this goes first
    call("mount", None, b"/", None, REC | PRIVATE, None)
    call("mount", b"tmpfs", encode(room), b"tmpfs", NOSUID | NODEV,
         b"size=1m,nr_inodes=4096,mode=755")
    furnish(room + VIEW, plan)
    os.mkdir(room + "/old")
    os.chdir(room)
    call("pivot_root", b".", b"old")
    os.chdir("/")
    call("umount2", b"/old", DETACH)
    os.rmdir("/old")
    call("mount", None, b"/", None, REMOUNT | RDONLY | NOSUID | NODEV, None)
    call("sethostname", b"room", 4)
    os.chroot(VIEW)                         # in a chroot nobody makes user namespaces
    os.chdir("/tmp")
    for name, most in plan["limits"].items():
        resource.setrlimit(getattr(resource, name), (most, most))
    os.execve(plan["command"][0], plan["command"], plan["environment"])


def furnish(view: str, plan: dict) -> None:
    """Put into the room what it needs to run Python, and an empty /tmp."""
    for folder in ("", "/dev", "/tmp"):
        os.mkdir(view + folder)
    call("mount", b"tmpfs", encode(view + "/tmp"), b"tmpfs", NOSUID | NODEV | NOEXEC,
         f"size={plan['tmp_bytes']},nr_inodes=2000,mode=1777".encode())
    for source, target in sorted(plan["shown"], key=lambda pair: len(pair[1])):
        show(source, view + target)
    for path in plan["hidden"]:             # a folder within one that is shown
        if os.path.isdir(view + path):
            call("mount", b"tmpfs", encode(view + path), b"tmpfs",
                 RDONLY | NOSUID | NODEV, b"size=4k")
    for name in DEVICES:
        show(f"/dev/{name}", f"{view}/dev/{name}", NOSUID | NOEXEC)
    os.makedirs(view + "/etc", exist_ok=True)
    with open(view + "/etc/passwd", "w") as file:
        file.write("student:x:{0}:{0}::/tmp:/bin/false\n"
                   "root:x:0:0::/tmp:/bin/false\n".format(plan["user"]))
    for link, target in plan["links"]:      # /lib -> usr/lib
        os.symlink(target, view + link)


def show(source: str, target: str, flags: int = RDONLY | NOSUID | NODEV) -> None:
    """Mount a file or a folder at `target`, read-only."""
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        open(target, "a").close()
    call("mount", encode(source), encode(target), None, BIND, None)
    kept = os.statvfs(target).f_flag & (RDONLY | NOSUID | NODEV | NOEXEC)
    if not flags & NODEV:
        kept &= ~NODEV
    call("mount", None, encode(target), None, BIND | REMOUNT | flags | kept, None)


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
