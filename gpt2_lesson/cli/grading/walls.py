# ruff: noqa: F821
# Run in a room before any submission, by `sandbox.try_walls`, which sets `door`,
# `course` and `paths`. Sends the first wall that gives way, or that all hold.
import ctypes
import os
import resource
import socket
import sys


def gives(action, *args):
    try:
        action(*args)
    except (OSError, ImportError):
        return False
    return True


def capabilities():
    text = (ctypes.c_uint32 * 6)()
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    ctypes.CDLL(None).capget(header, text)
    return any(text)


libc = ctypes.CDLL(None)
checks = {
    "runs as root outside": os.getuid() == 0 and os.path.exists("/proc/1"),
    "has capabilities": capabilities(),
    "may gain privileges": libc.prctl(39, 0, 0, 0, 0) != 1,
    "may make user namespaces": libc.unshare(0x10000000) == 0,
    "has a network": [n for _, n in socket.if_nameindex()] not in ([], ["lo"]),
    "reaches the network": gives(socket.create_connection, ("192.0.2.1", 9), 0.2),
    "sees other processes": os.getpid() != 1 or os.path.exists("/proc/self"),
    "sees a hidden folder": any(
        os.path.exists(path) and os.listdir(path) for path in paths),
    "writes outside /tmp": any(gives(open, f"{folder}/wall", "w") for folder in (
        "", "/usr", "/usr/lib", "/dev", "/etc", "/cache", course, sys.prefix)),
    "may change the root": gives(os.chroot, "/tmp"),
    "starts a process": gives(os.fork),
    "uses memory without limit": resource.getrlimit(resource.RLIMIT_AS)[1] < 0,
}
given = [name for name, is_open in checks.items() if is_open]
os.write(door, (given[0] if given else "all walls hold").encode())
