"""Records of several modalities, from a table whose columns are modalities."""

import json
import re
from pathlib import Path

import pytest
import soundfile
import torch
from tasks import MAKE, table
from tiny import mmm, save, values, write

from mmm.core.errors import BadRecord
from mmm.data.mixture import sample_of
from mmm.data.module import Data
from mmm.data.tables import read_joint

NAMES = ("text", "audio", "protein")
TOKENIZERS = {name: MAKE[name]().tokenizer for name in NAMES}


def pairs(folder: Path, rows: int = 60) -> str:
    """A protein and a text that names its letters; every fifth row has no text."""
    made = []
    for i in range(rows):
        residues = "".join("ACDEFGHIKL"[(i * k) % 10] for k in range(1, 9 + i % 5))
        made.append(("" if i % 5 == 0 else f"row {i}: " + " ".join(residues), residues, str(i)))
    return table(folder / "pairs.csv", made, ("text", "protein", "number"))


def test_a_row_is_one_record_of_what_its_cells_hold(tmp_path):
    soundfile.write(tmp_path / "s.wav", torch.ones(2000).numpy() * 0.1, 4000)
    path = table(tmp_path / "t.csv", [("s.wav", "a sound"), ("", "silence"), ("s.wav", "")], ("audio", "text"))
    both, text, audio = read_joint(Path(path), TOKENIZERS)
    assert (both["text"].raw, both["audio"].path) == ("a sound", str(tmp_path / "s.wav"))
    assert (list(text), list(audio)) == (["text"], ["audio"])
    assert len({sample_of(e) for e in (both, text, audio)}) == 3


BAD = {
    "one modality": (
        "text,label\na,x\n",
        "line 1, the header (parted by commas): a joint table needs two columns or more",
    ),
    "an empty row": ("text,protein\na,ACD\n,\n", "t.csv, record 2: line 3: all its cells are empty"),
    "no residue": ("text,protein\na,A1D\n", "t.csv, record 1: '1' at residue 2"),
    "no file": ("text,audio\na,gone.wav\n", "t.csv, record 1: no file 'gone.wav' beside the table"),
    "nothing": ("", "no record in it"),
}


@pytest.mark.parametrize("case", BAD)
def test_one_clear_line(tmp_path, case):
    content, message = BAD[case]
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(BadRecord, match=re.escape(message)) as caught:
        list(read_joint(tmp_path / "t.csv", TOKENIZERS))
    assert "\n" not in str(caught.value)


def test_its_tokens_share_a_segment(tmp_path):
    modalities = {name: MAKE[name]() for name in ("text", "protein")}
    data = Data(joint=pairs(tmp_path), tokens_per_batch=512, validation=0.3)
    data.read(modalities, 0)
    modalities["text"].fit(data.training_records("text"))
    (source,) = data.sources("train")
    assert source.name == "joint"
    tokens = data.pack(source.examples)
    assert sorted(tokens.layout.lengths) == sorted(source.lengths)
    for s in range(tokens.layout.segments):
        alone = tokens.segment(s)
        example = alone.aux["example"][0]
        assert set(example) == {name for name, rows in alone.content.items() if len(rows)}
    assert {r.raw for r in data.records("protein", "train")} == {e["protein"].raw for e in source.examples}


@pytest.mark.parametrize("beside_files", [False, True])
def test_a_run_on_pairs(tmp_path, beside_files):
    recipe = values(write(tmp_path / "files", ("text", "protein")))
    recipe["data"] |= {"joint": [pairs(tmp_path)]} | ({} if beside_files else {"files": {}})
    done = mmm("run", save(tmp_path / "recipe.yaml", recipe), "--run_dir", tmp_path / "run")
    assert done.status == 0, done.err
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert set(summary["data"]["train"]) == {"joint"} | ({"files.text", "files.protein"} if beside_files else set())
    assert set(summary["skill"]) == {"text", "protein"}
