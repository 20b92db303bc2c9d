"""The recipes, the README's commands and Python, the cards and the tools of this package, on small files."""

import csv
import json
import math
import re
import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from sklearn.metrics import accuracy_score, f1_score

from mmm.cli import lightning, main

HERE = Path(__file__).parent.parent
README = (HERE / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", README, re.S)
COMMANDS = [shlex.split(line) for kind, block in BLOCKS if kind == "bash" for line in block.splitlines() if line.strip()]
RECIPES = sorted((HERE / "recipes").glob("*.yaml"))
SHRUNK = shlex.split("--trainer.max_steps 2 --data.tokens_per_batch 600 --data.validation 0.3 --trainer.accelerator cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with this package where a checkout has it, and the files that the README names."""
    folder = tmp_path_factory.mktemp("labs")
    (folder / "plugins").mkdir()
    (folder / "plugins" / HERE.name).symlink_to(HERE)
    rng = np.random.default_rng(0)
    rows = []
    for _ in range(120):
        tsh = rng.lognormal(1, 1)
        rows.append(
            [f"{tsh:.3f}", "" if rng.random() < 0.2 else f"{100 / (1 + tsh) + rng.normal(0, 3):.1f}", rng.choice(["F", "M"])]
        )
        rows[-1].append("primary" if tsh > 4 else "negative")
    with (folder / "panel.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["TSH", "FTI", "sex", "class"], *rows])
    lines = [
        "@relation t",
        "@attribute TSH real",
        "@attribute FTI real",
        "@attribute sex {F,M}",
        "@attribute Class {primary,negative}",
    ]
    data = [",".join(cell or "?" for cell in row) for row in rows]
    (folder / "hypothyroid.arff").write_text("\n".join([*lines, "@data", *data]) + "\n")
    numbers = rng.integers(0, 99, (120, 8)).tolist()
    (folder / "pima-indians-diabetes.csv").write_text("".join(",".join(map(str, [*n, int(n[1] > 50)])) + "\n" for n in numbers))
    return folder


def run(place: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """One command of the README, two steps long, on small files, with data of its own."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("MMM_DATA", str(place / "data"))
    program, *rest = words
    if program == "python":
        monkeypatch.setattr(sys, "argv", rest)
        runpy.run_path(rest[0], run_name="__main__")
        return
    if rest[0] == "run":
        rest += SHRUNK
    try:
        status = (lightning if program == "lightning" else main)(rest)
    except SystemExit as done:
        status = done.code
    assert not status, words


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.name)
def test_a_recipe_says_what_it_is(path: Path) -> None:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    assert re.fullmatch(rf"# recipes/{path.name} - \S.{{10,}}", first)
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert recipe["plugins"] == ["mmm-labs"]
    assert "seed" in recipe
    assert f"recipes/{path.name}" in README


def test_recipes_take_two_steps(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny, finetune = (f"plugins/mmm-labs/recipes/labs-{name}.yaml" for name in ("tiny", "finetune"))
    run(place, monkeypatch, "mmm", "run", tiny, "--run_dir", "two", "--data.files.labs", "panel.csv")
    summary = json.loads((place / "two" / "summary.json").read_text())
    assert summary["steps"] == 2
    assert summary["skill"]["labs"]["target"] == "LabValue"
    losses = list(csv.DictReader((place / "two" / "losses.csv").open()))
    assert {row["term"] for row in losses} == {"labs/LabValue", "labs/LabCode"}
    assert all(math.isfinite(float(row["total"])) for row in losses)
    own = ("--data.files.labs", "panel.csv", "--init_from", "two")
    run(place, monkeypatch, "mmm", "run", finetune, "--run_dir", "task", *own)
    task = json.loads((place / "task" / "summary.json").read_text())["task"]
    assert task["metric"] == "accuracy"
    assert task["confusion"]["labels"] == ["negative", "primary"]


def test_a_mixture_with_text(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the masking nor the objective was told of it."""
    recipe = yaml.safe_load((HERE / "recipes" / "labs-tiny.yaml").read_text())
    model, arguments = recipe["model"], recipe["model"]["objective"]["init_args"]
    model["modalities"]["text"] = {"class_path": "Text", "init_args": {"vocabulary": 270, "max_length": 24}}
    arguments["masking"] = {"class_path": "Span", "init_args": {"rate": 0.3}}
    arguments["targets"]["text"] = "TokenIds"
    (place / "some.txt").write_text("\n\n".join(f"number {i} of the panel is a text of a few words" for i in range(40)))
    recipe["data"] = {"files": {"labs": "panel.csv", "text": "some.txt"}}
    (place / "both.yaml").write_text(yaml.safe_dump(recipe))
    run(place, monkeypatch, "mmm", "run", "both.yaml", "--run_dir", "both")
    assert list(json.loads((place / "both" / "summary.json").read_text())["skill"]) == ["labs", "text"]


def test_commands_of_the_readme(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    ran = 0
    for words in COMMANDS:
        if words[:2] == ["pip", "install"]:
            assert words[2:] == ["--no-deps", "-e", "plugins/mmm-labs"]
            continue
        run(place, monkeypatch, *words)
        ran += 1
    assert ran >= 8
    said = capsys.readouterr().out
    assert re.search(r"accuracy +model [\d.]+ \[", said)
    assert "difference" in said


def test_python_of_the_readme(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    if not (place / "runs" / "panel").exists():
        run(place, monkeypatch, *next(words for words in COMMANDS if words[-1] == "runs/panel"))
    blocks = [block for kind, block in BLOCKS if kind == "python"]
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


def test_baseline_takes_the_runs_own_split(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trees see no held-out row, and answer every one of them."""
    monkeypatch.chdir(place)
    tool = runpy.run_path(str(HERE / "tools" / "baseline.py"))
    if not (place / "task").exists():
        pytest.skip("needs the run of test_recipes_take_two_steps")
    held = tool["held_out"](place / "task")
    truth, answer, said = tool["trees"](place / "task")
    assert len(truth) == len(answer) == len(said) == len(held)
    assert 15 < len(held) < 60
    assert (said == truth).mean() > 0.9  # the label is a threshold of one value
    once = np.ones((1, len(truth)), int)
    for metric, theirs in (("accuracy", accuracy_score), ("macro_f1", lambda *x: f1_score(*x, average="macro"))):
        assert tool[metric](truth, answer, once)[0] == pytest.approx(theirs(truth, answer))
