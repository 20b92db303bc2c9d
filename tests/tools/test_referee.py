"""The workloads of tools/bench/referee.py do what the peers do. Runs where a folder with peers.py is on PYTHONPATH."""

import importlib
import math
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("peers", reason="no folder with peers.py, the other libraries' cases, on PYTHONPATH")
sys.path.append(str(Path(__file__).parents[2]))
referee = importlib.import_module("tools.bench.referee")

NAMES = sorted(referee.WORKLOADS)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_and_losses_are_the_peer_s(name):
    found = referee.compare(getattr(referee, name), batch=2)
    (ours, theirs), (loss, wanted) = found.parameters, found.losses
    assert abs(ours / theirs - 1) < 0.01, found
    assert abs(loss / wanted - 1) < 1e-5, found


@pytest.mark.parametrize("name", NAMES)
def test_a_case_is_counted_like_the_peer_s_and_learns(name):
    work = getattr(referee, name)
    case = work(seed=1, n_batches=1, batch=2)
    peer = referee.peers.PEERS[work.peer](seed=1, n_batches=1, batch=2)
    assert (case.needed_flops, case.useful_tokens, case.samples) == (peer.needed_flops, peer.useful_tokens, peer.samples)
    assert case.padded_tokens == case.useful_tokens
    assert abs(case.params / peer.params - 1) < 0.01
    losses = [case.step() for _ in range(3)]
    assert all(map(math.isfinite, losses))
    assert losses[0] > losses[1] > losses[2]
    assert all(bool(torch.isfinite(output).all()) for output in case.infer())


@pytest.mark.parametrize("name", NAMES)
def test_a_pure_case_learns_the_same(name):
    pure = getattr(importlib.import_module("tools.bench.pure"), name)
    cases = [work(seed=1, n_batches=1, batch=2) for work in (pure, getattr(referee, name))]
    assert {p.dtype for p in cases[0].model.parameters()} == {torch.bfloat16, torch.float32}
    assert cases[0].params == cases[1].params
    ours, wanted = ([case.step() for _ in range(3)] for case in cases)
    assert ours == pytest.approx(wanted, rel=1e-4)
    with pytest.raises(ValueError, match="dtype 'f32'"):
        pure(dtype="f32")


def test_another_optimiser_is_refused():
    with pytest.raises(ValueError, match="optimizer 'loop'"):
        referee.text(optimizer="loop")


def test_an_unequal_loss_is_told():
    assert referee.Comparison((100, 100), (10.0, 10.0)).equal
    assert not referee.Comparison((102, 100), (10.0, 10.0)).equal
    assert not referee.Comparison((100, 100), (10.001, 10.0)).equal
