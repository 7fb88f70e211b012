"""System calls that are not needed in a sandbox, and a filter that refuses them.

They use what belongs to the kernel and not to a process, and so escape namespaces and
limits: keyrings, shared memory, files without a name, other processes.
"""

import errno
import struct

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
}  # fmt: skip
NEW = 424  # these numbers are the same on all machines: io_uring, pidfd, clone3
SOCKET = (41, 198)
FAMILIES = (1, 2, 10, 16)  # UNIX, INET, INET6, NETLINK: all in the netns
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
ALLOW, KILL, ERROR = 0x7FFF0000, 0x80000000, 0x00050000


def system_call_filter(machine: str) -> bytes:
    """Return the filter as the kernel reads it: instructions of 8 bytes (seccomp).

    Raises OSError for a machine whose numbers are not known here.
    """
    if machine not in MACHINES:
        raise OSError(
            f"the machine is {machine}: system calls are known only of "
            f"{' and '.join(MACHINES)}"
        )
    column, architecture = MACHINES[machine]
    steps = [
        (LOAD, 0, 0, 4),
        (EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, 0),
        (AT_LEAST, 0, 1, NEW),
        (RETURN, 0, 0, ERROR | errno.ENOSYS),
    ]
    for numbers in SYSTEM_CALLS.values():
        steps += [(EQUAL, 0, 1, numbers[column]), (RETURN, 0, 0, ERROR | errno.EPERM)]
    steps += [(EQUAL, 1, 0, SOCKET[column]), (RETURN, 0, 0, ALLOW), (LOAD, 0, 0, 16)]
    for family in FAMILIES:
        steps += [(EQUAL, 0, 1, family), (RETURN, 0, 0, ALLOW)]
    steps += [(RETURN, 0, 0, ERROR | errno.EAFNOSUPPORT)]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
