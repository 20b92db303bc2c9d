"""Tables of records and labels: what is read, and what is refused in one line."""

import re

import numpy as np
import PIL.Image
import pytest
import soundfile
from tasks import MAKE, table

from mmm.core.errors import BadRecipe, BadRecord
from mmm.data.mixture import sample_of
from mmm.data.module import Data
from mmm.data.tables import Pair, is_table, read_table

TEXT = MAKE["text"]().tokenizer
PROTEIN = MAKE["protein"]().tokenizer


def read(folder, content, tokenizer=PROTEIN, name="t.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_table(path, tokenizer))


def found(records):
    return [(r.raw, r.label) for r in records]


# -- what is read --------------------------------------------------------------------------------------------------------------


def test_quoted_cells_line_ends_empty_lines_and_a_byte_order_mark(tmp_path):
    content = '\ufeff record , label \r\n"a ""b"", c",x\r\n\r\n"two\nlines","y, z"\r\n"ü 日",x\r\n\r\n'
    records = read(tmp_path, content, TEXT)
    assert found(records) == [('a "b", c', "x"), ("two\nlines", "y, z"), ("ü 日", "x")]
    assert [r.record for r in records] == [1, 2, 3]
    assert all(r.path.endswith("t.csv") for r in records)


def test_tabs(tmp_path):
    assert found(read(tmp_path, "label\trecord\nx\tone, two\n", TEXT, "T.TSV")) == [("one, two", "x")]


def test_other_columns_are_said_aloud_and_left_out(tmp_path, caplog):
    caplog.set_level("INFO", "mmm")
    assert found(read(tmp_path, "id,record,split,label\n7,ACD,train,x\n")) == [("ACD", "x")]
    assert "not used: the columns 'id', 'split'" in caplog.text


def test_without_labels_there_are_records_all_the_same(tmp_path):
    assert found(read(tmp_path, "record\nACD\nCDE\n")) == [("ACD", None), ("CDE", None)]


def test_a_label_keeps_its_spaces(tmp_path):
    """Per-residue labels may have one at their end."""
    assert found(read(tmp_path, "record,label\nACD,HH \n")) == [("ACD", "HH ")]


def test_equal_records_of_other_labels_have_one_identity(tmp_path):
    one, other = read(tmp_path, "record,label\nACD,x\nacd,y\n")
    assert (one.key, one.label, other.label) == (other.key, "x", "y")
    assert sample_of({"protein": one}) == sample_of({"protein": other})


def test_pairs(tmp_path):
    one, other = read(tmp_path, "record,record2,label\nACD,CDE,x\nCDE,ACD,x\n")
    assert isinstance(one.raw, Pair)
    assert (one.raw.first.raw, one.raw.second.raw, one.raw.first.label, one.raw.second.label) == ("ACD", "CDE", "x", "x")
    assert one.key != other.key


def test_cells_of_files_are_paths_from_the_table(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("sub/a b.png", "c.png"):
        PIL.Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(tmp_path / name)
    soundfile.write(tmp_path / "s.wav", np.ones(2000) * 0.1, 4000)
    image = MAKE["image"]().tokenizer
    records = read(tmp_path, f"record,label\nsub/a b.png,1\n{tmp_path}/c.png,0\n", image)
    assert [r.path for r in records] == [str(tmp_path / "sub/a b.png"), str(tmp_path / "c.png")]
    (sound,) = read(tmp_path, "record,label\ns.wav,loud\n", MAKE["audio"]().tokenizer)
    assert sound.label == "loud"
    with pytest.raises(BadRecord, match=r"t\.csv, record 1: no file 'gone\.png' beside the table"):
        read(tmp_path, "record,label\ngone.png,1\n", image)


# -- what is refused -----------------------------------------------------------------------------------------------------------

BAD = {
    "no record column": (
        "text,label\nACD,x\n",
        "t.csv: line 1, the header (parted by commas): no column 'record' among 'text', 'label'",
    ),
    "a near miss": ("records,label\nACD,x\n", "among 'records', 'label'; if 'records' is it, call it 'record'"),
    "capitals": ("Record\nACD\n", "among 'Record'; if 'Record' is it, call it 'record'"),
    "another separator": (
        "record;label\nACD;x\n",
        "no column 'record' among 'record;label'; it looks parted by semicolons: save it with commas between the cells",
    ),
    "tabs": ("record\tlabel\nACD\tx\n", "; it looks parted by tabs: save it with commas between the cells"),
    "a column twice": ("record,label,label\nACD,x,y\n", "the column 'label' is named twice"),
    "ragged, long": ("record,label\nACD,x\nCDE,y,z\n", "t.csv, record 2: line 3: has 3 cells, the header 2"),
    "ragged, short": ("record,label\nACD\n", "t.csv, record 1: line 2: has 1 cells, the header 2"),
    "an empty label": ("record,label\nACD,x\nCDE,\n", "t.csv, record 2: line 3: its label is empty"),
    "an empty record": ("record,label\n,x\n", "t.csv, record 1: "),
    "no residue": ("record,label\nACD,x\nA1D,x\n", "t.csv, record 2: '1' at residue 2"),
    "an open quote": ('record,label\n"ACD,x\nCDE,y\n', "is a quote left open"),
    "not UTF-8": ("record,label\nACD,größer\n".encode("latin1"), "t.csv: not UTF-8"),
    "a header alone": ("record,label\n", "no record in it"),
    "nothing": ("", "no record in it"),
}


@pytest.mark.parametrize("case", BAD)
def test_one_clear_line(tmp_path, case):
    content, message = BAD[case]
    with pytest.raises(BadRecord, match=re.escape(message)) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "t.csv"))


# -- as data -------------------------------------------------------------------------------------------------------------------


def data(files, test=None, **arguments):
    made = Data(files={"protein": files}, test=test and {"protein": test}, tokens_per_batch=128, **arguments)
    made.read({"protein": MAKE["protein"]()}, 0)
    return made


def rows(number, first="A"):
    return [(first + "ACDEFGHIKLMNPQRSTVWY"[i % 20] * (1 + i // 20), "xy"[i % 2]) for i in range(number)]


def test_a_test_set_is_held_out_whole_and_nothing_of_the_training_set_is(tmp_path, caplog):
    train, test = table(tmp_path / "train.csv", rows(100)), table(tmp_path / "test.csv", rows(60, "C") + rows(2))
    made = data(train, test, validation_records=10)
    assert len(made.records("protein", "train")) == 100
    assert [len(s.examples) for s in made.sources("validation")] == [62]
    assert "data.test.protein: 2 of 62 records are training records, too" in caplog.text


def test_without_one_a_share_by_content_is(tmp_path):
    made = data(table(tmp_path / "train.csv", rows(100) + [(r, "z") for r, _ in rows(100)]), validation=0.3)
    sides = [{r.raw for r in made.records("protein", split)} for split in ("train", "validation")]
    assert not sides[0] & sides[1]
    assert sum(map(len, sides)) == 100


def test_ten_records_are_enough_with_a_test_set(tmp_path):
    made = data(table(tmp_path / "train.csv", rows(10)), table(tmp_path / "test.csv", rows(40, "C")))
    assert len(made.records("protein", "train")) == 10


def test_a_test_set_needs_training_data(tmp_path):
    made = Data(test={"protein": table(tmp_path / "t.csv", rows(4))})
    with pytest.raises(BadRecipe, match=r"data\.test: 'protein' has no training data of its own; give --data\.files\.protein"):
        made.read({"protein": MAKE["protein"]()}, 0)


def test_a_table_in_a_folder_of_records_is_not_one_of_them(tmp_path):
    (tmp_path / "p.fasta").write_text("".join(f">p{i}\n{r}\n" for i, (r, _) in enumerate(rows(30))))
    table(tmp_path / "labels.csv", rows(5))
    assert len(data(str(tmp_path), validation=0.3).records("protein", "train")) <= 30


class Columns(type(PROTEIN)):
    """Reads tables of its own, a column a value."""

    suffixes = (*PROTEIN.suffixes, ".csv")


def test_a_tokenizer_may_read_tables_of_its_own(tmp_path):
    own, columns = tmp_path / "own.csv", Columns(32)
    for header, of_records in (("a,b", False), ("id, record ,b", True), ("", False)):
        own.write_text(f"{header}\n1,2,3\n")
        assert is_table(own, columns) == of_records
        assert is_table(own, PROTEIN)
    assert is_table(tmp_path / "there_is_none.tsv", columns)
    assert not is_table(tmp_path / "p.fasta", columns)


def test_a_pair_is_two_segments_of_one_group(tmp_path):
    pairs = [(r, r[::-1] + "W", label) for r, label in rows(30)]
    path = table(tmp_path / "t.csv", pairs, ("record", "record2", "label"))
    made = data(path, path)
    tokens = next(made.in_batches("train"))
    layout = tokens.layout
    assert layout.segments % 2 == 0
    for group in layout.group_S.unique():
        segments = (layout.group_S == group).nonzero()[:, 0].tolist()
        assert sorted(layout.part_S[segments].tolist()) == [0, 1]
        assert len(set(layout.sample_S[segments].tolist())) == 1
    assert sum(s.lengths[0] for s in made.sources("train")) == len(pairs[0][0]) + len(pairs[0][1]) + 4
    assert len(made.training_records("protein")) == 60
