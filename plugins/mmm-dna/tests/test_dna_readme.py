"""Every command and every Python block of the README, in its order: two steps long, on files of one's own."""

import gzip
import os
import random
import re
import shlex
import subprocess
import sys

import pytest
from mmm.cli import lightning, main
from test_dna_recipes import ROOT, SHRUNK, genome, promoters, words_of

from mmm_dna.prepare.ecoli_k12 import WHEEL

BLOCKS = re.findall(r"```(bash|python)\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
LINES = [line for kind, block in BLOCKS if kind == "bash" for line in block.splitlines() if line.strip()]
INSTALLED = {"-e plugins/mmm-dna", WHEEL}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which the README's files lie, and the data of the cards, small."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "plugins").mkdir()
    (folder / "plugins" / "mmm-dna").symlink_to(ROOT)
    for name in ("genomes", "data/ecoli-k12", "data/dna-promoters"):
        (folder / name).mkdir(parents=True)
    for split in ("train", "validation"):
        genome(folder / "data" / "ecoli-k12" / f"{split}.fasta")
    (folder / "genomes" / "a.fasta.gz").write_bytes(gzip.compress(genome(folder / "a.fasta").read_bytes()))
    rows = [line.split(",") for line in promoters(folder / "own.csv").read_text().split()[1:]]
    kmers = [" ".join(s[i : i + 6] for i in range(len(s) - 5)) + f"\t{label}" for s, label in rows]
    (folder / "dev.tsv").write_text("\n".join(["sequence\tlabel", *kmers]) + "\n")
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
            assert words[:2] == ["install", "--no-deps"]
            assert " ".join(words[2:]) in INSTALLED
        elif program == "python":
            done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
            assert done.returncode == 0, f"{line}: {done.stderr[-2000:]}"
        else:
            status = {"lightning": lightning, "mmm": main}[program](shrunk(words))
            assert status == 0, f"{line}: {capsys.readouterr()}"
    for kind, block in BLOCKS:
        if kind == "python":
            exec(compile(block, "README.md", "exec"), {"__name__": "readme"})
    assert (place / "runs" / "dna-tiny" / "report.html").exists()
    assert (place / "runs" / "promoters" / "predictions.csv").exists()


def test_the_baseline_tells_on_what_a_run_was_judged(place, tmp_path):
    """The held-out rows of the run are no training rows, and a motif that decides is found."""
    table = promoters(tmp_path / "own.csv", 90)
    rows = [line.split(",") for line in table.read_text().split()[1:]]
    held = [f"{table},{n},{s},{label},0,0.5" for n, (s, label) in enumerate(rows, 1) if n % 3 == 0]
    (tmp_path / "predictions.csv").write_text("\n".join(["file,row,record,label,prediction,score", *held]) + "\n")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "baseline.py"), str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "30 held-out records, 60 to learn from" in done.stdout
    said = {line[:32].strip(): float(line[32:].split()[0]) for line in done.stdout.splitlines()[1:]}
    assert said["mean of 1 runs"] == 0.5, "it always says 0"
    assert said["logistic regression, 6-mers"] > 0.8
    assert said["runs less the baseline"] < -0.3


@pytest.mark.parametrize(("sequence", "low", "high"), [("ACGGT" * 40, 0.8, 1.0), (None, -0.6, 0.05)])
def test_counts_tell_what_repeats_and_nothing_of_chance(sequence, low, high, tmp_path):
    for number, split in enumerate(("train", "validation")):
        rng = random.Random(number)
        lines = (f">s{i}\n{sequence or ''.join(rng.choices('ACGT', k=200))}\n" for i in range(20))
        (tmp_path / f"{split}.fasta").write_text("".join(lines))
    words = [
        sys.executable,
        str(ROOT / "tools" / "count_model.py"),
        *(str(tmp_path / f"{s}.fasta") for s in ("train", "validation")),
    ]
    done = subprocess.run([*words, "--reach", "2"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("3,920 bases"), "200 less 2 at either end, of 20 sequences"
    assert low <= float(done.stdout.split("skill ")[1].split()[0]) <= high
