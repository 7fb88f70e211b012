# Run in a sandbox before any submission, by `sandbox.run_selftest`, which calls `main`.
import ctypes
import errno
import os
import resource
import socket
import sys

libc = ctypes.CDLL(None, use_errno=True)


def gives(action, *args):
    try:
        action(*args)
    except (OSError, ImportError):
        return False
    return True


def fork():
    if os.fork() == 0:
        os._exit(0)


def capabilities():
    text = (ctypes.c_uint32 * 6)()
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    ctypes.CDLL(None).capget(header, text)
    return any(text)


def answered(number):
    """Return whether the kernel hears this system call, with senseless arguments."""
    ctypes.set_errno(0)
    libc.syscall(number, -1, -1, -1, -1, -1)
    return ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS)


def main(channel, course, secrets, system_calls):
    """Send what is possible and should not be, or "isolated".

    `secrets` are paths that must not be seen.
    """
    column = ["x86_64", "aarch64"].index(os.uname().machine)
    checks = {
        "runs as root outside": os.getuid() == 0 and os.path.exists("/proc/1"),
        "has capabilities": capabilities(),
        "may gain privileges": libc.prctl(39, 0, 0, 0, 0) != 1,
        "may make user namespaces": libc.unshare(0x10000000) == 0,
        "has a network": [n for _, n in socket.if_nameindex()] not in ([], ["lo"]),
        "reaches the network": gives(socket.create_connection, ("192.0.2.1", 9), 0.2),
        "reaches the machine's host": gives(socket.socket, 40),  # AF_VSOCK
        "sees other processes": os.getpid() != 1 or os.path.exists("/proc/self"),
        "sees a hidden file": any(map(os.path.lexists, secrets)),
        "writes outside /tmp": any(
            gives(open, f"{folder}/x", "w")
            for folder in ("", "/usr", "/usr/lib", "/dev", "/etc", course, *sys.path)
        ),
        "may change the root": gives(os.chroot, "/tmp"),
        "starts a process": gives(fork),
        "uses memory without limit": resource.getrlimit(resource.RLIMIT_AS)[1] < 0,
        "fills /tmp without limit": os.statvfs("/tmp").f_files > 10_000,
        **{
            f"may call {name}": answered(numbers[column])
            for name, numbers in system_calls.items()
        },
        "may call io_uring_setup": answered(425),
    }
    given = [name for name, is_open in checks.items() if is_open]
    os.write(channel, ("; ".join(given) or "isolated").encode())
