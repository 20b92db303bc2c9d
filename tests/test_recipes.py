"""Every recipe that ships: builds as it stands, and trains when it is made small."""

import csv
import json
import math
import random
import re
from pathlib import Path
from typing import Any

import pytest
from tiny import mmm, save, write

from mmm import yaml
from mmm.check import check
from mmm.recipe import read

ROOT = Path(__file__).parent.parent / "recipes"
RECIPES = {str(p.relative_to(ROOT)): p for p in sorted(ROOT.rglob("*.yaml"))}

WHOLE = [name for name in RECIPES if "init_from" not in (at := yaml.load(RECIPES[name])) and "modalities" in at["model"]]
"""Recipes that need no pretrained model."""
TASKS = [name for name in RECIPES if name.startswith("tasks/") and name not in WHOLE]
"""Recipes of standard tasks, each from a model it names; those of finetune/ are run in test_task.py."""

SMALL: dict[str, Any] = {
    "width": 16,
    "depth": 1,
    "heads": 2,
    "ff": 32,
    "vocabulary": 400,
    "max_length": 24,
    "record_words": 8,
    "max_seconds": 0.6,
    "clusters": 4,
    "warmup": 1,
    "tokens_per_batch": 512,
    "workers": 0,
    "validation": 0.3,
}
"""By key, wherever it stands in a recipe."""
WAVEFORM = {"conv_width": 16, "mels": 8}
"""Of the waveform front end, whose rate is bound to its convolutions."""


def shrunk(value: Any) -> Any:
    """The same recipe with small numbers, wherever a key is known."""
    if isinstance(value, dict):
        return {k: SMALL[k] if k in SMALL and isinstance(v, (int, float)) else shrunk(v) for k, v in value.items()}
    return [shrunk(v) for v in value] if isinstance(value, list) else value


def small(name: str, folder: Path, steps: int = 2) -> dict[str, Any]:
    """A recipe that ships, made small and given files of its own."""
    recipe = shrunk(read(RECIPES[name]).values)
    for modality, made in recipe["model"]["modalities"].items():
        arguments = made["init_args"]
        if made["class_path"] == "Image" and arguments["size"]:
            arguments["size"] = 2 * arguments["patch"]
        if made["class_path"] == "Audio" and arguments["front_end"] == "waveform":
            arguments |= WAVEFORM
        assert modality in ("text", "image", "audio", "protein"), f"{name}: say here how files of {modality!r} are made"
    recipe["data"] |= {"cards": {}, "files": write(folder / "files", recipe["model"]["modalities"])}
    recipe["trainer"] = {k: v for k, v in recipe["trainer"].items() if k not in ("devices", "num_nodes", "strategy")}
    recipe["trainer"] |= {"max_steps": steps, "precision": 32, "accelerator": "cpu"}
    return recipe


def earlier_runs(value: Any) -> list[dict[str, Any]]:
    """Arguments of every part that reads an earlier run."""
    if isinstance(value, dict):
        own = [value] if isinstance(value.get("run"), str) else []
        return own + [found for inner in value.values() for found in earlier_runs(inner)]
    return [found for inner in value for found in earlier_runs(inner)] if isinstance(value, list) else []


def test_there_are_recipes_of_every_modality():
    assert "quickstart.yaml" in RECIPES
    assert {name.split("/")[0] for name in RECIPES} >= {"text", "image", "audio", "protein"}


@pytest.mark.parametrize("name", RECIPES)
def test_it_says_what_it_is(name):
    text = RECIPES[name].read_text(encoding="utf-8")
    first, _, rest = text.partition("\n")
    assert re.fullmatch(rf"# recipes/{re.escape(name)} - \S.{{10,}}", first), "the first line is '# recipes/PATH.yaml - TITLE'"
    assert "mmm." not in rest, "classes are called by their bare names"
    assert first.partition(" - ")[2] in mmm("list", "recipes").out
    recipe = yaml.loads(text, name)
    assert "seed" in recipe
    assert recipe["trainer"]["max_steps"] > 0


@pytest.mark.parametrize("name", WHOLE)
def test_it_builds(name):
    said = check(str(RECIPES[name]))
    assert said.startswith(f"{RECIPES[name]}: sound\nparameters: ")
    assert "which this model does not have" not in said


@pytest.mark.parametrize("name", WHOLE)
def test_it_trains(name, tmp_path, monkeypatch):
    monkeypatch.setenv("MMM_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    recipe = small(name, tmp_path)
    for arguments in earlier_runs(recipe):
        first = next(n for n in RECIPES if Path(n).stem == Path(arguments["run"]).name)
        done = mmm("run", save(tmp_path / f"{Path(first).stem}.yaml", small(first, tmp_path)))
        assert done.status == 0, done.err
        assert Path(arguments["run"]).is_dir(), "an earlier run lies where its recipe leaves it"
        arguments["layer"] = 1
    done = mmm("run", save(tmp_path / Path(name).name, recipe), "--run_dir", "out")
    assert done.status == 0, done.err
    for file in ("recipe.yaml", "losses.csv", "summary.json", "report.html", "checkpoints/step-2.ckpt"):
        assert (tmp_path / "out" / file).stat().st_size > 0, file
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["steps"] == 2
    assert list(summary["skill"]) == list(recipe["model"]["modalities"])
    assert all(audit["specials_hidden"] == 0 for audit in summary["masks"].values())
    rows = list(csv.DictReader((tmp_path / "out" / "losses.csv").open()))
    assert {row["step"] for row in rows} == {"1", "2"}
    assert all(math.isfinite(float(row["total"])) for row in rows)
    assert {row["term"].split("/")[0] for row in rows} == set(recipe["model"]["modalities"])
    assert not (tmp_path / "data").exists(), "no card is touched where one's own files are given"


def weights(source: str, folder: Path) -> str:
    """A small model in the place of the one a task begins from: by the recipe that leaves it, or by a text model."""
    first = next((n for n in RECIPES if source == f"runs/{Path(n).stem}"), "text/bert-tiny.yaml")
    if not (folder / "runs" / "source").exists():
        done = mmm("run", save(folder / "source.yaml", small(first, folder)), "--run_dir", folder / "runs" / "source")
        assert done.status == 0, done.err
    return str(folder / "runs" / "source")


@pytest.mark.parametrize("name", TASKS)
def test_a_task_trains_from_its_model(name, tmp_path, monkeypatch):
    from tasks import halves, protein, table

    monkeypatch.chdir(tmp_path)
    recipe = shrunk(yaml.load(RECIPES[name]))
    ((modality, _),) = recipe["data"]["files"].items()
    numbers, rng = random.Random(0), random.Random(1)
    rows = {
        "Tag": lambda r: "".join(numbers.choices("HEC-", k=len(r))),
        "Regress": lambda r: str(round(numbers.random(), 3)),
    }
    objective = recipe["model"]["objective"]
    kind = objective if isinstance(objective, str) else objective["class_path"]
    if kind in rows:
        found = [protein(rng) for _ in range(60)]
        files = table(tmp_path / "data" / "task.csv", [(r, rows[kind](r)) for r in found])
    else:
        files = halves(tmp_path / "data", modality)
    recipe |= {"init_from": weights(recipe["init_from"], tmp_path), "data": {"files": {modality: files}, "validation": 0.3}}
    recipe["data"]["tokens_per_batch"] = 1024
    recipe["trainer"] = {"max_steps": 2, "accelerator": "cpu"}
    done = mmm("run", save(tmp_path / "task.yaml", recipe), "--run_dir", "out")
    assert done.status == 0, done.err
    task = json.loads((tmp_path / "out" / "summary.json").read_text())["task"]
    assert task["low"] <= task["value"] <= task["high"]
