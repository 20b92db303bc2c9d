"""A tiny model of every modality, trained for a few steps."""

import pytest
import tiny

import mmm
from mmm.evaluation.features import Frozen


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Its run folder."""
    folder = tmp_path_factory.mktemp("evaluated")
    recipe = tiny.save(folder / "tiny.yaml", tiny.values(tiny.write(folder / "data"), steps=3))
    done = tiny.mmm("run", recipe, "--run_dir", folder / "run")
    assert done.status == 0, done.err
    return folder / "run"


@pytest.fixture(scope="session")
def model(run):
    return mmm.load(run).requires_grad_(False)


@pytest.fixture
def frozen(model):
    """A function: the model asked about one modality."""
    return lambda modality: Frozen(model, modality)
