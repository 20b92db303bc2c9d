"""Models that were trained on dropped tokens are asked in that way, whoever asks."""

import pytest
import tiny

import mmm
from mmm.evaluation.features import Frozen
from mmm.evaluation.likelihood import MaskedHead
from mmm.task import pseudo_log_likelihood


def test_both_pseudo_log_likelihoods_drop_what_training_dropped(tmp_path):
    recipe = tiny.values(tiny.write(tmp_path / "data", ("protein",)), steps=3)
    recipe["model"]["objective"]["init_args"]["corruption"] = "Drop"
    recipe["model"]["decoder"] = {"class_path": "TransformerDecoder", "init_args": {"width": 16, "depth": 1, "heads": 2}}
    done = tiny.mmm("run", tiny.save(tmp_path / "r.yaml", recipe), "--run_dir", tmp_path / "run")
    assert done.status == 0, done.err
    model, records = mmm.load(tmp_path / "run"), ["MKVAY", "ACDEFGHIKL"]
    theirs = MaskedHead(Frozen(model, None)).pseudo_log_likelihoods(records)
    assert pseudo_log_likelihood(model, records) == pytest.approx(theirs, abs=1e-4)
