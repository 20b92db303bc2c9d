"""tools/bench/joint.py and embedding.py ask for what their peers do. Runs where a folder with peers.py is on PYTHONPATH."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

peers = pytest.importorskip("peers", reason="no folder with peers.py, the other libraries' cases, on PYTHONPATH")
sys.path.append(str(Path(__file__).parents[2]))
joint = importlib.import_module("tools.bench.joint")
embedding = importlib.import_module("tools.bench.embedding")


def test_a_joint_batch_asks_what_the_four_ask():
    found = joint._peers(0, 1)
    (pixels, patches), (_, _, frames, _) = found["image"].batches[0], found["audio"].batches[0]
    labels = [found[name].batches[0].labels for name in ("text", "protein")]
    wanted = [*((label != peers.IGNORE).sum() for label in labels), patches.sum(), frames.sum()]
    asked = joint.asked(joint._looks(joint.model(), found, 1))
    assert [asked[name] for name in ("text", "protein", "image", "audio")] == [[int(n)] for n in wanted]
    assert len(pixels) == 16


def test_the_joint_step_learns():
    case = joint.joint(n_batches=1)
    first, second = case.step(), case.step()
    assert second < first
    assert case.useful_tokens > 7000


@pytest.mark.parametrize(("ours", "theirs"), [("text", "bert"), ("protein", "esm")])
def test_embeddings_are_of_the_same_tokens(ours, theirs):
    case, peer = (getattr(embedding, name)(n_batches=1, batch=3) for name in (ours, theirs))
    got, want = case.infer(), peer.infer()
    assert (case.useful_tokens, case.needed_flops) == (peer.useful_tokens, peer.needed_flops)
    assert len(got) == case.useful_tokens
    assert got.shape[-1] == want.shape[-1]
    assert bool(torch.isfinite(got).all())
