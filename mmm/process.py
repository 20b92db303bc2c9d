"""What the command line sets for its own process before torch is there: how memory is kept and how threads wait.

The environment goes before: whoever sets one of these there has it as set.
"""

from __future__ import annotations

import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
"""Of mallopt(3)."""

SPINS = 10_000
"""Turns of a thread that waits for the next operation before it sleeps: a fraction of a millisecond."""


def settle() -> None:
    """Both, for the process and those it starts."""
    wait_briefly()
    keep_memory()


def wait_briefly() -> None:
    """Threads of OpenMP look out for the next operation for a moment, then sleep.

    One that sleeps at once takes longer to wake than a small operation lasts (a step on two threads 1.1 to 1.35 times as long);
    one that never does takes the core from whom it waits for, where other programs want the cores, too (up to 15 times as
    long). An OpenMP that does not know ``GOMP_SPINCOUNT`` (LLVM's, on macOS) sleeps at once.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))


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
