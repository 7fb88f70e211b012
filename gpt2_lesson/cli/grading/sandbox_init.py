"""Build the sandbox around this process, then run a command in it; part of `sandbox`.

It is started by `unshare` in fresh namespaces, as their root, and needs nothing but
Python itself: `python -I -S sandbox_init.py PLAN`, where PLAN is JSON. The old file
system is not hidden but gone: the new root is an empty tmpfs, into which only what PLAN
names is mounted, read-only. What namespaces and limits leave open, memory and messages
that belong to the kernel, a filter of system calls closes.
"""

import ctypes
import errno
import json
import os
import resource
import struct
import sys

RDONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8
REMOUNT, BIND, REC, PRIVATE, DETACH = 32, 4096, 16384, 1 << 18, 2
DEVICES = ("null", "zero", "full", "random", "urandom")
VIEW = "/view"                          # the sandbox's root, within the new root
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
SYSTEM_CALLS = {                        # refused; their numbers on these two machines
    "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "shmget": (29, 194), "shmctl": (31, 195), "shmat": (30, 196),
    "semget": (64, 190), "semctl": (66, 191), "semtimedop": (220, 192),
    "semop": (65, 193), "msgget": (68, 186), "msgctl": (71, 187),
    "msgrcv": (70, 188), "msgsnd": (69, 189), "mq_open": (240, 180),
    "memfd_create": (319, 279), "userfaultfd": (323, 282), "io_setup": (206, 0),
    "inotify_init": (253, 26), "inotify_init1": (294, 26), "bpf": (321, 280),
    "fanotify_init": (300, 262),
    "perf_event_open": (298, 241), "ptrace": (101, 117), "kcmp": (312, 272),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271),
    "vmsplice": (278, 75), "splice": (275, 76), "tee": (276, 77),
    "unshare": (272, 97), "setns": (308, 268), "mount": (165, 40),
    "pivot_root": (155, 41), "chroot": (161, 51), "open_by_handle_at": (304, 265),
}
NEW = 424       # from here on numbers are the same everywhere: io_uring, pidfd, clone3
SOCKET = (41, 198)
FAMILIES = (1, 2, 10, 16)               # UNIX, INET, INET6, NETLINK: all in the netns
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
ALLOW, KILL, ERROR = 0x7FFF0000, 0x80000000, 0x00050000
libc = ctypes.CDLL(None, use_errno=True)


def main(plan: dict) -> None:
    """Mount, change the root, set the limits, drop every right, become the command."""
    root = plan["root"]
    os.umask(0o022)                     # whatever the teacher's is
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")              # if memory runs out, this goes first
    call("mount", None, b"/", None, REC | PRIVATE, None)
    call("mount", b"tmpfs", encode(root), b"tmpfs", NOSUID | NODEV,
         b"size=1m,nr_inodes=4096,mode=755")
    furnish(root + VIEW, plan)
    os.mkdir(root + "/old")
    os.chdir(root)
    call("pivot_root", b".", b"old")
    os.chdir("/")
    call("umount2", b"/old", DETACH)
    os.rmdir("/old")
    call("mount", None, b"/", None, REMOUNT | RDONLY | NOSUID | NODEV, None)
    call("sethostname", b"sandbox", 7)
    os.chroot(VIEW)                     # in a chroot nobody makes user namespaces
    os.chdir("/tmp")
    for name, most in plan["limits"].items():
        resource.setrlimit(getattr(resource, name), (most, most))
    refuse_system_calls(os.uname().machine)
    os.execve(plan["command"][0], plan["command"], plan["environment"])


def furnish(view: str, plan: dict) -> None:
    """Put into the sandbox what it needs to run Python, and an empty /tmp.

    A mount without a source is an empty folder, which hides what is there. What lies
    deeper comes later: a folder may be shown within one that is hidden.
    """
    for folder in ("", "/dev", "/tmp"):
        os.mkdir(view + folder)
    call("mount", b"tmpfs", encode(view + "/tmp"), b"tmpfs", NOSUID | NODEV | NOEXEC,
         f"size={plan['tmp_bytes']},nr_inodes=2000,mode=1777".encode())
    empty = []
    for target, source in sorted(plan["mounts"], key=lambda one: one[0].count("/")):
        target = view + target
        if source is not None:
            show(source, target)
        elif os.path.isdir(target):
            call("mount", b"tmpfs", encode(target), b"tmpfs", NOSUID | NODEV,
                 b"size=64k,nr_inodes=100,mode=755")
            empty.append(target)
    for target in empty:
        call("mount", None, encode(target), None,
             BIND | REMOUNT | RDONLY | NOSUID | NODEV, None)
    for name in DEVICES:
        show(f"/dev/{name}", f"{view}/dev/{name}", NOSUID | NOEXEC)
    os.makedirs(view + "/etc", exist_ok=True)
    with open(view + "/etc/passwd", "w") as file:
        file.write("student:x:{0}:{0}::/tmp:/bin/false\n"
                   "root:x:0:0::/tmp:/bin/false\n".format(plan["user"]))
    for link, target in plan["links"]:  # /lib -> usr/lib
        os.symlink(target, view + link)


def show(source: str, target: str, flags: int = RDONLY | NOSUID | NODEV) -> None:
    """Mount a file or a folder at `target`, read-only."""
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if not os.path.exists(target):
            open(target, "a").close()
    call("mount", encode(source), encode(target), None, BIND, None)
    kept = os.statvfs(target).f_flag & (RDONLY | NOSUID | NODEV | NOEXEC)
    if not flags & NODEV:
        kept &= ~NODEV
    call("mount", None, encode(target), None, BIND | REMOUNT | flags | kept, None)


def refuse_system_calls(machine: str) -> None:
    """Leave the session keyring, and let the kernel refuse what nobody needs here."""
    if machine not in MACHINES:
        raise OSError(f"the machine is {machine}: system calls are known only of "
                      f"{' and '.join(MACHINES)}")
    libc.syscall(SYSTEM_CALLS["keyctl"][MACHINES[machine][0]], 1, None)  # a fresh one
    code = system_call_filter(machine)

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_char_p)]

    program = Program(len(code) // 8, code)
    call("prctl", 22, 2, ctypes.byref(program), 0, 0)       # PR_SET_SECCOMP, FILTER


def system_call_filter(machine: str) -> bytes:
    """Return the filter as the kernel reads it: instructions of 8 bytes (seccomp)."""
    column, architecture = MACHINES[machine]
    steps = [(LOAD, 0, 0, 4), (EQUAL, 1, 0, architecture), (RETURN, 0, 0, KILL),
             (LOAD, 0, 0, 0), (AT_LEAST, 0, 1, NEW),
             (RETURN, 0, 0, ERROR | errno.ENOSYS)]
    for numbers in SYSTEM_CALLS.values():
        steps += [(EQUAL, 0, 1, numbers[column]), (RETURN, 0, 0, ERROR | errno.EPERM)]
    steps += [(EQUAL, 1, 0, SOCKET[column]), (RETURN, 0, 0, ALLOW), (LOAD, 0, 0, 16)]
    for family in FAMILIES:
        steps += [(EQUAL, 0, 1, family), (RETURN, 0, 0, ALLOW)]
    steps += [(RETURN, 0, 0, ERROR | errno.EAFNOSUPPORT)]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


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
