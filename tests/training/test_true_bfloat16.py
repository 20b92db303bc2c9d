"""A run whose weights are bfloat16: what it keeps, that it goes on, and what becomes of it."""

import json

import pytest
import torch
from tiny import mmm, save, values, write

import mmm as package
from mmm.checkpoint import load_checkpoint, newest
from mmm.precision import TrueBfloat16
from mmm.runlog import losses


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("true")
    recipe = values(write(folder / "files"), steps=8)
    for name, precision in {"true": "bf16-true", "mixed": "bf16-mixed"}.items():
        recipe["trainer"]["precision"] = precision
        path = save(folder / f"{name}.yaml", recipe)
        done = mmm("run", path, "--run_dir", folder / name, "--checkpoint_every", "4")
        assert done.status == 0, done.err
    return folder


def test_products_are_kept_in_bfloat16(runs):
    state = load_checkpoint(newest(runs / "true"))["state_dict"]
    kinds = {name: tensor.dtype for name, tensor in state.items()}
    assert kinds["model.modalities.text.embedding.weight"] == torch.float32  # its rows sum the gradients of many tokens
    assert kinds["model.encoder.blocks.0.attention.qkv.weight"] == torch.bfloat16
    assert kinds["model.encoder.blocks.0.attention.qkv.bias"] == torch.float32
    assert kinds["model.encoder.norm.weight"] == torch.float32
    assert json.loads((runs / "true" / "summary.json").read_text())["precision"] == "bf16-true"


def test_it_learns_what_mixed_precision_learns(runs):
    """But for gradients, which are clipped in bfloat16."""
    true, mixed = (losses(runs / name / "losses.csv") for name in ("true", "mixed"))
    assert true.keys() == mixed.keys()
    for term, steps in true.items():
        assert [total for _, total, _ in steps] == pytest.approx([total for _, total, _ in mixed[term]], rel=1e-3), term


def test_it_goes_on_to_the_same_bits(runs, tmp_path):
    import shutil

    shutil.copytree(runs / "true", tmp_path / "true")
    (tmp_path / "true" / "checkpoints" / "step-8.ckpt").unlink()
    for file in ("summary.json", "report.html"):
        (tmp_path / "true" / file).unlink()
    done = mmm("run", str(runs / "true.yaml"), "--run_dir", tmp_path / "true", "--resume", "--checkpoint_every", "4")
    assert done.status == 0, done.err
    assert (tmp_path / "true" / "losses.csv").read_bytes() == (runs / "true" / "losses.csv").read_bytes()
    again, whole = (load_checkpoint(newest(f))["state_dict"] for f in (tmp_path / "true", runs / "true"))
    assert all(torch.equal(again[name], whole[name]) for name in whole)


def test_its_model_is_loaded_in_float32(runs):
    model = package.load(str(runs / "true"))
    (hidden,) = model.hidden(["the shared encoder"])
    assert hidden.dtype == torch.float32
    assert bool(torch.isfinite(hidden).all())


def test_what_it_cannot_do_is_refused(runs, tmp_path):
    words = ["run", str(runs / "true.yaml"), "--run_dir", tmp_path / "out"]
    done = mmm(*words, "--data.max_tokens_per_rank", "100")
    assert done.status != 0
    assert "several micro-batches in bfloat16" in done.err
    done = mmm(*words, "--model.adapter", "BitFit")
    assert "the adapter BitFit needs bf16-mixed" in done.err
    for began, now in (("mixed", "bf16-true"), ("true", "bf16-mixed")):
        done = mmm("run", runs / f"{began}.yaml", "--run_dir", runs / began, "--resume", "--trainer.precision", now)
        assert done.status != 0
        assert "cannot go on with" in done.err
    with pytest.raises(ValueError, match="not for mps"):
        TrueBfloat16("mps")
