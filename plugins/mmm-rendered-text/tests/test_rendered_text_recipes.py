"""The recipes that ship, made small, on files of their own: they parse, take two steps, and follow one another; the card."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from drawn_records import corpus, table
from mmm import yaml
from mmm.cli import main
from mmm.data.cards import load_card

ROOT = Path(__file__).parent.parent
RECIPES = ROOT / "recipes"
RUN = {"data.tokens_per_batch": 400, "data.validation": 0.3, "trainer.max_steps": 2, "trainer.accelerator": "cpu"}
NET = {f"model.encoder.init_args.{key}": value for key, value in {"width": 16, "depth": 1, "heads": 2}.items()}
SHRUNK = {
    "rendered-text-tiny.yaml": RUN | NET,
    "rendered-text.yaml": RUN
    | NET
    | {f"model.decoder.init_args.{key}": value for key, value in {"width": 16, "depth": 1, "heads": 2}.items()},
    "rendered-text-finetune.yaml": RUN,
}
"""Overrides of the small runs."""


def words_of(overrides: dict[str, Any]) -> list[str]:
    return [word for key, value in overrides.items() for word in (f"--{key}", str(value))]


def run(recipe: str, **own: Any) -> dict[str, Any]:
    """The summary of a small run."""
    words = words_of(SHRUNK[recipe] | {key.replace("__", "."): value for key, value in own.items()})
    assert main(["run", str(RECIPES / recipe), *words]) == 0
    return json.loads((own["run_dir"] / "summary.json").read_text())


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    run("rendered-text-tiny.yaml", data__files__rendered_text=corpus(folder / "a.txt"), run_dir=folder / "run")
    return folder / "run"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.name)
def test_it_says_what_it_is(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# recipes/{path.name} - ")
    assert "mmm." not in text, "classes are called by their bare names"
    values = yaml.loads(text, path.name)
    assert values["plugins"] == ["mmm-rendered-text"]
    assert values["trainer"]["max_steps"] > 0
    assert "seed" in values
    assert path.name in SHRUNK


def test_pretraining_takes_steps(pretrained):
    summary = json.loads((pretrained / "summary.json").read_text())
    assert summary["steps"] == 2
    assert math.isfinite(summary["skill"]["rendered_text"]["value"])
    assert summary["masks"]["rendered_text"]["specials_hidden"] == 0
    assert (pretrained / "report.html").read_text().count("data:image/png") >= 3
    assert next((pretrained / "assets").rglob("font.ttf")).stat().st_size > 10_000


def test_the_papers_recipe_takes_steps(tmp_path):
    summary = run("rendered-text.yaml", data__files__rendered_text=corpus(tmp_path / "a.txt"), run_dir=tmp_path / "run")
    assert summary["skill"]["rendered_text"]["target"] == "Pixels"


@pytest.mark.parametrize("rows", ["texts", "pairs"])
def test_finetuning_begins_from_it(rows, pretrained, tmp_path):
    own = table(tmp_path / "own.csv")
    more = {}
    if rows == "pairs":
        lines = [f"{line.rsplit(',', 1)[0]},{line}" for line in own.read_text().splitlines()[1:]]
        own.write_text("\n".join(["record,record2,label", *lines]) + "\n")
        more = {"model__objective": "Classify", "model__objective__init_args__pairs": "true"}
    summary = run(
        "rendered-text-finetune.yaml", init_from=pretrained, data__files__rendered_text=own, run_dir=tmp_path / "run", **more
    )
    assert summary["task"]["metric"] == "accuracy"


def test_the_card(tmp_path, monkeypatch):
    """Its texts are those of the card python-docs."""
    monkeypatch.setenv("MMM_DATA", str(tmp_path))
    card, theirs = load_card("python-docs-rendered"), load_card("python-docs")
    assert card.home.distribution == "mmm-rendered-text"
    assert (card.modality, card.size, card.licence) == ("rendered_text", theirs.size, theirs.licence)
    card.prepare()
    theirs.prepare()
    assert card.verify() == []
    for split in ("train", "validation"):
        assert card.files(split)[0].read_bytes() == theirs.files(split)[0].read_bytes()
