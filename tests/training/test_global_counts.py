"""One process, two processes and accumulation: equal gradients, because counts are global."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ONE_STEP = Path(__file__).with_name("one_step.py")


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("steps")
    rng = random.Random(0)
    words = ["stream", "token", "mask", "hidden", "shared", "encoder", "row", "layout", "of", "the", "a", "is"]
    text = "\n\n".join(" ".join(rng.choices(words, k=rng.randint(20, 90))) for _ in range(120))
    (folder / "corpus.txt").write_text(text)
    records = [f">p{i}\n{''.join(rng.choices('ACDEFGHIKLMNPQRSTVWY', k=rng.randint(20, 90)))}" for i in range(60)]
    (folder / "some.fasta").write_text("\n".join(records))
    env = {k: v for k, v in os.environ.items() if k not in ("WORLD_SIZE", "RANK", "LOCAL_RANK")}

    def run(name: str, devices: int, most: int) -> tuple[list, list]:
        words = [sys.executable, str(ONE_STEP), str(folder), str(devices), str(most), "2", name]
        done = subprocess.run(words, capture_output=True, text=True, env=env, timeout=240)
        assert done.returncode == 0, done.stderr[-2000:]
        gradients = torch.load(folder / f"{name}.gradients", weights_only=True)
        return gradients, json.loads((folder / f"{name}.json").read_text())

    return {
        "one": run("one", 1, 0),
        "again": run("again", 1, 0),
        "accumulated": run("accumulated", 1, 240),
        "two": run("two", 2, 0),
    }


def test_same_seed_same_bits(steps):
    (first, terms), (second, terms_again) = steps["one"], steps["again"]
    assert terms == terms_again
    for a, b in zip(first, second, strict=True):
        assert all(torch.equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize("other", ["accumulated", "two"])
def test_gradients_do_not_depend_on_the_cut(steps, other):
    (whole, terms), (cut, cut_terms) = steps["one"], steps[other]
    for a, b in zip(whole[0], cut[0], strict=True):
        assert a == b
    for name, gradient in whole[0].items():
        error = (gradient - cut[0][name]).norm() / gradient.norm().clamp(min=1e-12)
        assert error < 1e-6, f"{name}: {error:.2e}"
    for (name, total, count), (name_cut, total_cut, count_cut) in zip(terms[0], cut_terms[0], strict=True):
        assert (name, count) == (name_cut, count_cut)
        assert total == pytest.approx(total_cut, rel=1e-6)


def test_counts_of_both_modalities_are_there(steps):
    assert [name for name, _, _ in steps["one"][1][0]] == ["text/TokenIds", "protein/TokenIds"]
    assert all(count > 0 for _, _, count in steps["one"][1][0])
