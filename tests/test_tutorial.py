"""docs/a-modality-in-30-minutes.md: every file is written and every command run, in its order.

Shortened here: runs take a few steps, and the kit's run on two processes is left to tests/test_new.py. `make soak` runs all as
written.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from installed import forget, importable, pip_install, run_tests
from tiny import captured, mmm, write

from mmm.cli import lightning
from mmm.testing import runs

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "a-modality-in-30-minutes.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.S)
SHORT = ["--trainer.max_steps", "3", "--trainer.accelerator", "cpu"]


def path_of(block: str) -> str | None:
    """Where a block that is a file belongs."""
    first = re.match(r"# (\S+/\S+)\n", block)
    return first[1] if first else None


def test_every_block_is_used():
    kinds = {kind for kind, block in BLOCKS if path_of(block) is None}
    assert kinds == {"bash", "python", "text"}, "a file says its path in its first line"
    files = [path_of(block) for _, block in BLOCKS if path_of(block)]
    assert len(files) == len(set(files)) == 10
    lines = [line for kind, block in BLOCKS if kind == "bash" for line in block.splitlines()]
    assert {line.split()[0] for line in lines} == {"pip", "mmm", "lightning"}


def test_in_its_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MMM_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(runs, "check_two_processes", lambda *_: None)
    text = write(tmp_path / "files", ["text"])["text"]  # the documentation of Python takes a while to gather
    place = tmp_path / "mmm-code"
    with importable(tmp_path / "site", place, package="mmm_code"):
        for kind, block in BLOCKS:
            if path := path_of(block):
                (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / path).write_text(block, encoding="utf-8")
            elif kind == "python":
                exec(compile(block, "the tutorial", "exec"), {"__name__": "tutorial"})
            elif kind == "bash":
                for line in block.splitlines():
                    run(shlex.split(line), text)
        ran = run_tests(place / "tests" / "test_code.py", tmp_path, but="test_everything")  # which ran as a command
    assert ran == ["test_the_modality", "test_words_that_are_not_in_the_vocabulary"]
    assert {p.name for p in (tmp_path / "runs").iterdir()} == {"code", "blocks", "both"}
    assert all((p / "report.html").exists() for p in (tmp_path / "runs").iterdir())


def run(words: list[str], text: str) -> None:
    """A command of the page, shortened, in this process."""
    if words[0] == "pip":
        assert words == ["pip", "install", "--no-deps", "-e", "mmm-code"]
        pip_install(Path("mmm-code"), Path("site"))
        forget()
        return
    short = SHORT if words[1] == "run" else []
    if words[1] == "run" or "Block" in words:  # the data of the card were read by the first `mmm masks`
        short = [*short, "--data.files.code", "mmm-code/mmm_code/examples/some.functions", "--data.validation", "0.4"]
    if any(word.endswith("code-and-text.yaml") for word in words):
        short = [*short, "--data.files.text", text]
    done = captured(lightning, [*words[1:], *short]) if words[0] == "lightning" else mmm(*words[1:], *short)
    assert done.status == 0, f"{' '.join(words)}: {done.out[-2000:]}{done.err[-2000:]}"
    if words[1:3] == ["plugin", "check"]:
        assert "all ok" in done.out
    if words[1] == "masks" and "Block" in words:
        assert "■" in done.out


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_as_written(tmp_path):
    """As a reader types it, but for where pip installs; the skill is above zero."""
    import json

    places = os.pathsep.join([str(tmp_path / "site"), str(tmp_path / "mmm-code")])
    beside = str(Path(sys.executable).parent)
    environment = {**os.environ, "PYTHONPATH": places, "MMM_DATA": str(tmp_path / "data")}
    environment["PATH"] = f"{beside}{os.pathsep}{environment['PATH']}"
    for kind, block in BLOCKS:
        if path := path_of(block):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(block, encoding="utf-8")
        elif kind == "python":
            subprocess.run([sys.executable, "-c", block], cwd=tmp_path, env=environment, check=True)
        elif kind == "bash":
            for words in map(shlex.split, block.splitlines()):
                if words[0] == "pip":
                    pip_install(tmp_path / "mmm-code", tmp_path / "site")
                else:
                    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
                    assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    for name in ("code", "blocks", "both"):
        skill = json.loads((tmp_path / "runs" / name / "summary.json").read_text())["skill"]
        assert skill["code"]["low"] > 0, name
