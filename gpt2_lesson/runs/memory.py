"""How this process allocates memory."""

import ctypes

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # glibc's malloc.h


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory; return False where another library allocates.

    A training step frees nearly all that it allocated, and the next one needs it again.
    By default glibc returns it to the system, which has to fill every page with zeros
    before it is used again. That takes about a tenth of the time of a small step.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc: macOS, Windows, musl
        return False
    wanted = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 1 << 26))
    return all([mallopt(option, value) for option, value in wanted])
