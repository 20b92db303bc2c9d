"""Whole suites on a model: what tasks share, and what they do not."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from mmm.evaluation.command import _folder
from mmm.evaluation.evaluate import evaluate
from mmm.evaluation.opening import digest
from mmm.evaluation.suite import read
from mmm.evaluation.table import markdown, values

SUITE = """
name: mine
version: 1
title: mine
seeds: [0]
data:
  one: {reader: recordings, modality: audio, needs: sounds, arguments: {pattern: "(?P<label>[ab])[0-9]+.wav"}}
  two: {reader: recordings, modality: audio, needs: sounds, arguments: {pattern: "(?P<label>[ab])[0-9]+.wav"}}
tasks:
  knn-one: {measure: knn, data: one, arguments: {k: 1}}
  knn-two: {measure: knn, data: two, arguments: {k: 1}}
"""


@pytest.fixture
def suite(tmp_path):
    (tmp_path / "mine.yaml").write_text(SUITE)
    return read(tmp_path / "mine.yaml")


def sounds(folder, told):
    """Two kinds of sound under two names, or noise."""
    folder.mkdir()
    for i in range(60):
        pitch = 0.2 if i % 2 else 0.9
        wave = 0.3 * np.sin(np.arange(2000) * pitch) if told else np.random.default_rng(i).normal(0, 0.1, 2000)
        soundfile.write(folder / f"{'ab'[i % 2]}{i}.wav", wave + np.random.default_rng(i).normal(0, 0.01, 2000), 4000)
    return {"": folder}


def test_data_whose_files_have_the_same_names_share_no_features(run, suite, tmp_path):
    given = {"one": sounds(tmp_path / "one", True), "two": sounds(tmp_path / "two", False)}
    done = evaluate(str(run), suite, given).done
    assert done["knn-one"].outcome.value == 1.0
    alone = evaluate(str(run), suite, {"two": given["two"]}).done
    assert done["knn-two"].outcome.value == alone["knn-two"].outcome.value < 1.0


def test_results_say_what_they_were_measured_on(run, suite, tmp_path):
    paths = sounds(tmp_path / "one", True)
    result = evaluate(str(run), suite, {"one": paths})
    assert f"- knn-one: {tmp_path / 'one'} (sha256 " in markdown(result)
    data = values(result)["tasks"]["knn-one"]["data"]
    assert data == {"paths": {"all": str(tmp_path / "one")}, "sha256": digest([tmp_path / "one"])}
    (tmp_path / "one" / "a0.wav").unlink()
    assert digest([tmp_path / "one"]) != data["sha256"]


def test_the_folder_of_a_source_tells_it_from_others(run):
    checkpoint = next((run / "checkpoints").glob("step-*.ckpt"))
    assert _folder(str(run)) == run / "eval"
    assert _folder(str(checkpoint)) == Path(f"eval/run-{checkpoint.stem}")
    assert _folder("owner/name") == Path("eval/owner-name")
