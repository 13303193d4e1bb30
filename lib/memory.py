"""How is freed memory kept for the next batch? Asking the system for it anew costs more than many a layer."""

from __future__ import annotations

import contextlib
import ctypes
import functools

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h of glibc


@functools.cache
def keep_freed_memory() -> None:
    """Let malloc reuse what it was given instead of returning every large tensor to the system and faulting it in again.

    Holds for the whole process, which stays as large as its largest moment. Does nothing where the C library is not glibc.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, 64 << 20)):
            mallopt(option, value)
