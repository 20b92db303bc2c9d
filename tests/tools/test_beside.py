"""What of tools/bench is timed beside peers asks for what they do. Runs where peers.py is on PYTHONPATH."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

peers = pytest.importorskip("peers", reason="no folder with peers.py, the other libraries' cases, on PYTHONPATH")
sys.path.append(str(Path(__file__).parents[2]))
joint = importlib.import_module("tools.bench.joint")
embedding = importlib.import_module("tools.bench.embedding")
referee = importlib.import_module("tools.bench.referee")
sampling = importlib.import_module("tools.bench.sampling")
gpu = importlib.import_module("tools.bench.gpu")


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


@pytest.mark.parametrize(("ours", "theirs", "mask"), [("text", "bert", 103), ("protein", "esm", 32)])
def test_samples_are_of_the_same_tokens(ours, theirs, mask):
    case, peer = (getattr(sampling, name)(n_batches=1, batch=3) for name in (ours, theirs))
    (got_T,) = [c for c in case.infer().content.values() if len(c)]
    want_BN = peer.infer()
    assert len(got_T) == case.useful_tokens == peer.useful_tokens
    assert not (got_T == mask).any()
    assert (want_BN == mask).float().mean() < 0.1  # a peer may draw it: there it hides nothing any more
    (look,) = referee.Peer.of({"bert": "bert", "esm": "esm-hf"}[theirs], 0, 1, 3).batches
    assert torch.equal(want_BN[:, 0], torch.where(look.labels != peers.IGNORE, look.labels, look.ids)[:, 0])


def test_gpu_script_on_a_cpu(tmp_path, capsys):
    names = ["mae_cifar", "simmim"]
    words = [*names, "--device", "cpu", "--batch", "2", "--steps", "1", "--repeats", "1", "--no-compile"]
    assert gpu.main([*words, "--out", str(tmp_path / "table.md")]) == 0
    table = (tmp_path / "table.md").read_text()
    assert table == capsys.readouterr().out
    cases = [line.split(" | ")[1] for line in table.splitlines() if line.count(" | ") == 6][1:]
    assert cases == ["vitmae-cifar, sdpa", "mmm", "timm-simmim", "mmm"]
    assert table.count("| yes |") == len(names)


def test_a_size_is_both_sides_size():
    with gpu.sized("base"):
        case = gpu.ours(gpu.WORKLOADS["protein"], "cpu", 1, 1, False)
        peer = gpu.Peer.of("esm-hf", 0, 1, 1)
    assert case.tokens == peer.useful
    assert sum(p.numel() for p in peer.model.parameters()) > 30e6
    assert gpu.peers.ESM["dim"] == 320


def test_what_is_not_right_is_told():
    assert gpu.Agreement(0.0, 0.0, 0.0).holds
    assert not gpu.Agreement(0.0, 0.0, 0.01).holds


@pytest.mark.parametrize(
    ("make", "option"),
    [(joint.joint, "optimizer"), (embedding.text, "compiled"), (embedding.bert, "compiled"), (sampling.bert, "compiled")],
)
def test_what_is_not_heeded_is_refused(make, option):
    with pytest.raises(ValueError, match=option):
        make(**{option: "loop"})
