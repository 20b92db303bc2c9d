"""Memory that stays with the process."""

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory; the C library here is another"
)

FAULTS = """
import resource, sys
import torch
from mmm.allocator import keep_memory

if sys.argv[1] == "kept":
    keep_memory()
for _ in range(10):
    torch.ones(2**24).add(1)  # twice 64 MiB
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(2**24).add(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str, **environment: str) -> int:
    """Pages that the system cleared for twenty rounds of operations on tensors of 64 MiB."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_") and k != "GLIBC_TUNABLES"}
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, env={**clean, **environment})
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_large_tensors_are_not_cleared_anew():
    assert faults("kept") < faults("as it is") / 8  # the heap may still grow once; pages may be large ones


def test_the_users_own_setting_holds():
    assert faults("kept", MALLOC_MMAP_THRESHOLD_="1048576") > faults("as it is") / 2
