"""Freed memory stays with the process: training on a CPU takes the same blocks at every step.

By default glibc asks the kernel for each large block by itself and gives it back when it is freed,
and the kernel clears all pages of the next one: a third of a step, of networks on large frames.
"""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # M_TRIM_THRESHOLD and M_MMAP_MAX of malloc.h


def keep_freed_memory() -> bool:
    """Have malloc take blocks of all sizes from memory that it keeps, until the process ends.

    What a process needs at most stays the same. It is for processes of one purpose: a long-lived
    one would never return what it once needed.

    Returns:
        Whether it does now; False where the C library is not glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    glibc = ctypes.CDLL(None)
    return bool(glibc.mallopt(_MMAP_MAX, 0)) and bool(glibc.mallopt(_TRIM_THRESHOLD, -1))
