"""Memory that stays with the process, threads that wait a moment."""

import os
import platform
import subprocess
import sys

import pytest

from mmm.cli import main
from mmm.process import wait_briefly

GLIBC = pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc is told to keep memory; the C library here is another"
)

FAULTS = """
import resource, sys
import torch
from mmm.process import keep_memory

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


@GLIBC
def test_large_tensors_are_not_cleared_anew():
    assert faults("kept") < faults("as it is") / 8  # the heap may still grow once; pages may be large ones


@GLIBC
def test_the_users_own_setting_holds():
    assert faults("kept", MALLOC_MMAP_THRESHOLD_="1048576") > faults("as it is") / 2


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, {"OMP_WAIT_POLICY": "ACTIVE"}),
        ({"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "7"}),
    ],
)
def test_threads_wait_as_the_user_says(monkeypatch, before, after):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    wait_briefly()
    assert {name: os.environ[name] for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT") if name in os.environ} == after


def test_importing_the_command_line_brings_no_torch():
    """Else the threads' waiting would be set too late."""
    code = "import sys, mmm.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_command_line_settles_its_own_process_alone(monkeypatch, capsys):
    settled = []
    monkeypatch.setattr("mmm.cli.settle", lambda: settled.append("settled"))
    main(["list", "samplers"])
    assert settled == []
    monkeypatch.setattr(sys, "argv", ["mmm", "list", "samplers"])
    main()
    assert settled == ["settled"]
