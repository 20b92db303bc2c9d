"""The command that tells how long one waits."""

import runpy
from pathlib import Path

import pytest
from tiny import save, values, write

BENCH = Path(__file__).parents[2] / "tools/bench/start.py"


def test_a_run_is_stopped_at_its_first_step(tmp_path):
    start = runpy.run_path(str(BENCH))
    path = save(tmp_path / "recipe.yaml", values(write(tmp_path / "files", ("protein",)), steps=2))
    assert 0 < start["waited"](["-c", "import mmm"]) < start["first_step"](Path(path))


def test_a_run_that_ends_before_it_says_why(tmp_path):
    start = runpy.run_path(str(BENCH))
    with pytest.raises(RuntimeError, match=r"gone\.yaml"):
        start["first_step"](tmp_path / "gone.yaml")
