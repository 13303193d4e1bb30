"""How is freed memory kept for the next batch? Asking the system for it anew costs more than many a layer."""

from __future__ import annotations

import ctypes
import functools
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h of glibc


@functools.cache
def keep_freed_memory() -> bool:
    """Let malloc reuse what it was given instead of returning every large tensor to the system and faulting it in again.

    Holds for the whole process, which stays as large as its largest moment. False where the C library is not glibc.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return all([mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, -1), mallopt(M_TOP_PAD, 64 << 20)])
