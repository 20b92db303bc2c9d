"""The C library's memory, kept by the process."""

from __future__ import annotations

import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
"""Of mallopt(3)."""


def keep_memory() -> None:
    """What one step gives back, the next one takes again, where the C library is glibc.

    By itself it returns every block of 32 MiB and more to the system as soon as it is free, and the end of its heap with it.
    The system then clears the same memory page by page, on one thread, for the next tensor: a fifth of a step where a
    vocabulary has 50,000 rows. All threads take from one heap, so that what the backward pass frees serves the next forward
    pass. The peak grows by up to a tenth, and is kept until the process ends; so it is in each worker of a data loader. Where
    the environment sets the allocator (``MALLOC_...``, ``glibc.malloc`` in ``GLIBC_TUNABLES``), that holds.
    """
    theirs = any(name.startswith("MALLOC_") for name in os.environ) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if theirs or platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_ARENA_MAX, 1)):
        mallopt(option, value)
