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
    "data.tokens_per_batch": 600,
    "data.validation": 0.3,
    "trainer.max_steps": 2,
    "trainer.accelerator": "cpu",
}
"""Overrides of the small runs."""


def words_of(overrides: dict[str, Any]) -> list[str]:
    return [word for key, value in overrides.items() for word in (f"--{key}", str(value))]


def genome(path: Path, records: int = 40) -> Path:
    """A FASTA file."""
    rng = random.Random(0)
    path.write_text("".join(f">s{i}\n{''.join(rng.choices('ACGT', k=rng.randint(40, 120)))}\n" for i in range(records)))
    return path


def promoters(path: Path, records: int = 60) -> Path:
    """A table: a TATA box, or none."""
    rng = random.Random(1)
    rows = ["record,label"]
    for i in range(records):
        sequence = "".join(rng.choices("ACG", k=60))
        rows.append(f"{sequence[:20]}TATAAA{sequence[20:]},1" if i % 2 else f"{sequence},0")
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    """The pre-training recipe, two steps long."""
    folder = tmp_path_factory.mktemp("dna")
    files = {"data.files.dna": genome(folder / "some.fasta"), "run_dir": folder / "run"}
    assert main(["run", str(RECIPES / "dna-tiny.yaml"), *words_of(SHRUNK | files)]) == 0
    return folder / "run"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.name)
def test_it_says_what_it_is(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# recipes/{path.name} - ")
    assert "mmm." not in text, "classes are called by their bare names"
    values = yaml.loads(text, path.name)
    assert values["plugins"] == ["mmm-dna"]
    assert values["trainer"]["max_steps"] > 0
    assert "seed" in values


def test_pretraining_takes_steps(pretrained):
    summary = json.loads((pretrained / "summary.json").read_text())
    assert summary["steps"] == 2
    assert math.isfinite(summary["skill"]["dna"]["value"])
    assert summary["masks"]["dna"]["specials_hidden"] == 0
    assert (pretrained / "report.html").stat().st_size > 0


def test_finetuning_begins_from_it(pretrained, tmp_path):
    small = {key: value for key, value in SHRUNK.items() if ".encoder." not in key}
    own = {"init_from": pretrained, "data.files.dna": promoters(tmp_path / "own.csv"), "run_dir": tmp_path / "run"}
    assert main(["run", str(RECIPES / "dna-finetune.yaml"), *words_of(small | own)]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["task"]["metric"] == "accuracy"
    assert 0 <= summary["task"]["low"] <= summary["task"]["high"] <= 1


def test_a_card_that_is_not_prepared_says_how(pretrained, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MMM_DATA", str(tmp_path))
    words = ["run", str(RECIPES / "dna-finetune.yaml"), *words_of({"init_from": pretrained, "run_dir": tmp_path / "run"})]
    assert main(words) == 2
    assert "mmm data prepare dna-promoters" in capsys.readouterr().err
