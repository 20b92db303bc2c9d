"""tools/bench/growth.py and loop.py measure what they say; how long it takes is asserted nowhere."""

import importlib
import random
import sys
from pathlib import Path

import pytest
from tiny import save, values, write

sys.path.append(str(Path(__file__).parents[2]))
growth = importlib.import_module("tools.bench.growth")
loop = importlib.import_module("tools.bench.loop")


@pytest.mark.parametrize("spread", ["equal", "uniform", "lognormal"])
def test_lengths_have_the_mean_and_the_spread(spread):
    case = growth.Case("", spread, length=100, records=400)
    lengths = case.lengths(random.Random(0))
    assert sum(lengths) == pytest.approx(400 * 100, rel=0.01)
    assert (len(set(lengths)) == 1) == (spread == "equal")


def test_a_step_has_the_tokens_of_its_case():
    case = growth.Case("", "uniform", length=20, records=4, depth=1)
    step, tokens = growth.stepper(case)
    step()
    assert tokens == pytest.approx(4 * 20, abs=6)
    found = growth.timed((case, growth.Case("twice", length=20, records=4, depth=2)), 1)
    assert all(value > 0 for value in found.values())


def test_the_bare_step_learns_the_batches_of_the_run(tmp_path, monkeypatch):
    recipe = save(tmp_path / "tiny.yaml", values(write(tmp_path / "files")))
    seen = {}
    plain = loop.bare
    monkeypatch.setattr(loop, "bare", lambda training, batches: seen.setdefault("s", plain(training, batches)))
    run, bare = loop.compared(Path(recipe), steps=6, skip=2)
    assert run > 0
    assert bare == pytest.approx(seen["s"] / 4)
