"""Where things are made and where they run: fitting and fresh weights on the host, training on the device there is."""

import json
from types import SimpleNamespace

import pytest
import torch
from tasks import halves
from tiny import MODALITIES, mmm, save, values, write

from mmm import precision
from mmm.data.module import Data
from mmm.recipe import Recipe, instantiate, resolve
from mmm.trainer import Trainer


def configured(recipe, folder, device):
    """The model of a recipe, made as a trainer makes it whose device is the default one."""
    torch.manual_seed(0)
    training = instantiate(Recipe("here", resolve(recipe, "here")))
    data = Data(**recipe["data"])
    data.read(training.modalities, training.seed)
    strategy = SimpleNamespace(barrier=lambda: None)
    trainer = SimpleNamespace(default_root_dir=str(folder), is_global_zero=True, strategy=strategy, datamodule=data)
    training._trainer = trainer
    with torch.device(device):
        training.configure_model()
    return training


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, and its driver may be asked")
def test_without_a_gpu_no_step_asks_the_driver(monkeypatch):
    monkeypatch.setenv(
        "PYTORCH_NVML_BASED_CUDA_CHECK", "1"
    )  # as Lightning sets it; the optimiser looks for a GPU at every step
    Trainer(logger=False, enable_checkpointing=False)
    monkeypatch.setattr("torch.cuda._device_count_nvml", lambda: pytest.fail("the driver was asked"))
    weight = torch.zeros(2, requires_grad=True)
    weight.grad = torch.ones(2)
    torch.optim.AdamW([weight]).step()


def test_fitting_and_fresh_weights_do_not_hang_on_the_default_device(tmp_path):
    recipe = values(write(tmp_path / "files", records=20), 1)
    elsewhere = configured(recipe, tmp_path / "a", "meta")  # the meta device holds no numbers: nothing could be fitted on it
    here = configured(recipe, tmp_path / "b", "cpu")
    assert elsewhere.assets == here.assets
    there = elsewhere.state_dict()
    assert all(torch.equal(there[name], tensor) for name, tensor in here.state_dict().items())


needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@needs_gpu
def test_four_modalities_train_on_a_gpu(tmp_path):
    recipe = values(write(tmp_path / "files"), 4)
    recipe["trainer"] |= {"accelerator": "gpu", "precision": "auto"}
    done = mmm("run", save(tmp_path / "gpu.yaml", recipe), "--run_dir", tmp_path / "out")
    assert done.status == 0, done.err
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["precision"] == "bf16-mixed"
    assert list(summary["skill"]) == list(MODALITIES)


@needs_gpu
@pytest.mark.parametrize("name", MODALITIES)
def test_a_task_is_learned_and_judged_on_a_gpu(tmp_path, name):
    recipe = values(write(tmp_path / "files", [name]), 1)
    assert mmm("run", save(tmp_path / "first.yaml", recipe), "--run_dir", tmp_path / "first").status == 0
    table = halves(tmp_path / "table", name)
    task = {"init_from": str(tmp_path / "first"), "model": {"objective": "Classify"}, "trainer": {"max_steps": 2}}
    task |= {"seed": 0, "data": {"files": {name: table}, "tokens_per_batch": 400, "validation": 0.3}}
    done = mmm("run", save(tmp_path / "task.yaml", task), "--run_dir", tmp_path / "out", "--trainer.accelerator", "gpu")
    assert done.status == 0, done.err
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["task"]["metric"] == "accuracy"


@pytest.mark.parametrize(("good", "meant"), [(True, "bf16-mixed"), (False, "32-true")])
def test_auto_is_bfloat16_where_the_hardware_has_it(monkeypatch, caplog, good, meant):
    monkeypatch.setattr(precision, "_multiplies_bfloat16", lambda _: good)
    assert precision.chosen("auto") == meant
    assert precision.chosen(32) == 32
    assert precision.chosen("bf16-mixed") == "bf16-mixed"
    assert ("in software" in caplog.text) == (not good)


def test_a_run_takes_the_precision_that_auto_stands_for(tmp_path):
    recipe = values(write(tmp_path / "files", ["protein"]), 1)
    recipe["trainer"]["precision"] = "auto"
    done = mmm("run", save(tmp_path / "auto.yaml", recipe), "--run_dir", tmp_path / "out")
    assert done.status == 0, done.err
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["precision"] == precision.chosen("auto", "cpu")
