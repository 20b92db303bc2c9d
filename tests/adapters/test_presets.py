"""The ladder by its short names."""

from pathlib import Path

import pytest

import mmm.adapters
from mmm import plugins
from mmm.yaml import loads

PATH = Path(mmm.adapters.__file__).with_name("presets.yaml")
PRESETS = loads(PATH.read_text(encoding="utf-8"), str(PATH))
LADDER = ["full", "layer-decay", "last", "lora", "bitfit", "bottleneck", "invertible", "prompt", "prefix", "sparse", "probe"]
LADDER += ["attentive", "knn"]


def test_every_rung_is_there():
    assert set(PRESETS) >= set(LADDER)


@pytest.mark.parametrize("name", PRESETS)
def test_a_rung_names_an_adapter_and_its_arguments(name):
    preset = PRESETS[name]
    assert set(preset) == {"about", "set"}
    assert preset["about"]
    assert all(key.startswith("model.") for key in preset["set"])
    adapter = preset["set"]["model.adapter"]
    if adapter is None:
        assert name == "full"
        return
    adapter = {"class_path": adapter} if isinstance(adapter, str) else adapter
    plugins.find(adapter["class_path"], "Adapter", name).load()(**adapter.get("init_args", {}))


def test_every_adapter_is_a_rung():
    """But the one that `mmm grow` sets: it names the modalities of one model."""
    used = {a["class_path"] if isinstance(a, dict) else a for p in PRESETS.values() if (a := p["set"]["model.adapter"])}
    assert used == set(plugins.of_role("Adapter")) - {"NewModalities"}
