"""Every command and every Python block of the README, in its order: two steps long, on files of one's own; the tool."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from drawn_records import corpus, sst2, table
from mmm.cli import lightning, main
from PIL import Image, ImageFont
from test_rendered_text_recipes import ROOT, SHRUNK, words_of

BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
LINES = [line for kind, block in BLOCKS if kind == "bash" for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which the README's files lie, as at the top of a checkout."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "plugins").mkdir()
    (folder / "plugins" / "mmm-rendered-text").symlink_to(ROOT)
    (folder / "tools").symlink_to(ROOT.parent.parent / "tools")
    corpus(folder / "corpus" / "a.txt")
    corpus(folder / "data" / "python-docs-rendered" / "train.txt")
    corpus(folder / "data" / "python-docs-rendered" / "validation.txt")
    sst2(folder / "sst2")
    (folder / "DejaVuSans.ttf").write_bytes(ImageFont.load_default(16).font_bytes)
    return folder


def test_the_whole_readme(place, monkeypatch):
    monkeypatch.chdir(place)
    monkeypatch.setenv("MMM_DATA", str(place / "data"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for kind, block in BLOCKS:
        if kind == "python":
            exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
            continue
        for line in filter(str.strip, block.splitlines()):
            program, *words = shlex.split(os.path.expandvars(line), comments=True)
            if program == "pip":
                assert words == ["install", "--no-deps", "-e", "plugins/mmm-rendered-text"]
            elif program == "python":
                done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
                assert done.returncode == 0, f"{line}: {done.stderr[-2000:]}"
            elif words[:2] != ["plugin", "check"]:  # which is a test of its own
                more = words_of(SHRUNK[Path(words[1]).name]) if words[0] == "run" else []
                assert {"lightning": lightning, "mmm": main}[program]([*words, *more]) == 0, line
    assert Image.open("strip.png").size[1] == 16
    assert (place / "runs" / "sst2" / "predictions.csv").exists()


def test_every_recipe_and_argument_is_told_of():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(name in text for name in SHRUNK)
    assert all(f"`{name}`" in text for name in ("patch", "max_length", "font", "lacking", "apart", "unit", "positions"))


def test_the_baselines_are_judged_by_the_runs_own_records(tmp_path):
    own = table(tmp_path / "own.csv", 150)
    rows = [line.split(",") for line in own.read_text().splitlines()[1:]]
    held = [f"{own},{n},{text},{label},0,0.5" for n, (text, label) in enumerate(rows, 1) if n % 3 == 0]
    (tmp_path / "predictions.csv").write_text("\n".join(["file,row,record,label,prediction,score", *held]) + "\n")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "baseline.py"), str(tmp_path)], capture_output=True, text=True, check=True
    )
    first, *lines = done.stdout.splitlines()
    assert first.startswith("50 held-out records, 100 to learn from")
    said = {line[10:50].strip(): float(line[50:].split()[0]) for line in lines}
    assert said["TF-IDF, logistic regression"] > 0.9, "one word decides"
    assert said[tmp_path.name] == pytest.approx(
        sum(label == "0" for n, (_, label) in enumerate(rows, 1) if n % 3 == 0) / 50, abs=1e-3
    )
    assert said["runs less the commonest class"] <= 0
