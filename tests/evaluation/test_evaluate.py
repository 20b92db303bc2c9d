"""Whole suites on a model: what tasks share, and what they do not."""

import numpy as np
import pytest
import soundfile

from mmm.evaluation.evaluate import evaluate
from mmm.evaluation.suite import read

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
