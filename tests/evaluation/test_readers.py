"""Data as people have them: tables, archives, names of files; and what is wrong with them."""

import gzip
import io
import json
import shutil
import tarfile
import zipfile

import numpy as np
import PIL.Image
import pytest
import soundfile

from mmm.core.errors import BadRecord
from mmm.evaluation.dataset import Given
from mmm.evaluation.opening import files
from mmm.evaluation.readers import contacts, images, minimal_pairs, recordings, residues, table

FSDD = {"pattern": r"(?P<label>[0-9])_(?P<speaker>[a-z]+)_(?P<number>[0-9]+)\.wav", "test": {"number": "[0-4]"}}


@pytest.fixture
def given(model):
    """A function: where the data of a modality lie."""
    return lambda modality, path="", **sides: Given(sides or {"": path}, model.model.modalities[modality].tokenizer)


def rows(data):
    return [(*e.records, e.label, e.test) for e in data.examples]


def test_a_table_with_a_header(given, tmp_path):
    (tmp_path / "t.csv").write_text('label,record,other\n1,"the row, quoted",x\n0,a mask,y\n')
    assert rows(table.read(given("text", tmp_path / "t.csv"))) == [("the row, quoted", "1", None), ("a mask", "0", None)]


def test_a_table_without_a_header_as_sst2_has_it(given, tmp_path):
    for name, line in (("train", 'a "good" row\t1\n'), ("test", "a bad row\t0\n"), ("dev", "another\t0\n")):
        (tmp_path / f"{name}.tsv.gz").write_bytes(gzip.compress(line.encode()))
    (tmp_path / "README.md").write_text("a\tb\n")
    found = rows(table.read(given("text", tmp_path)))
    assert found == [('a "good" row', "1", False), ("a bad row", "0", True)]


def test_a_table_without_a_header_may_have_commas_in_its_records(given, tmp_path):
    (tmp_path / "t.csv").write_text('"the row, label",1\n"a mask, a row",0\n')
    assert rows(table.read(given("text", tmp_path / "t.csv"))) == [("the row, label", "1", None), ("a mask, a row", "0", None)]
    (tmp_path / "t.tsv").write_text('the "row\t1\na mask\t0\n')
    assert rows(table.read(given("text", tmp_path / "t.tsv"))) == [('the "row', "1", None), ("a mask", "0", None)]


def test_an_empty_table(given, tmp_path):
    (tmp_path / "t.csv").write_text("\n")
    with pytest.raises(BadRecord, match="no labelled row in it"):
        table.read(given("text", tmp_path / "t.csv"))


def test_pairs_and_a_column_of_sets(given, tmp_path):
    (tmp_path / "p.tsv").write_text(
        "index\tsentence1\tsentence2\tscore\tset\n0\tthe row\tthe mask\t4.5\ttrain\n1\ta\tb\t0\ttest\n"
    )
    assert rows(table.read(given("text", tmp_path / "p.tsv"))) == [("the row", "the mask", "4.5", False), ("a", "b", "0", True)]


def test_columns_with_other_names_in_two_files(given, tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.tsv").write_text(f"question\tsentence\tlabel\nis {name}\tthe row\tyes\n")
    sides = given("text", train=tmp_path / "one.tsv", test=tmp_path / "two.tsv")
    found = rows(table.read(sides, record="question", record2="sentence"))
    assert found == [("is one", "the row", "yes", False), ("is two", "the row", "yes", True)]


def test_one_file_of_an_archive_as_flip_has_it(given, tmp_path):
    with zipfile.ZipFile(tmp_path / "splits.zip", "w") as archive:
        archive.writestr("splits/two_vs_rest.csv", "sequence,target,set,validation\nMKV,1.0,train,\nMKA,0.5,test,\n")
        archive.writestr("splits/other.csv", "sequence,target,set,validation\n")
    for place in (tmp_path, tmp_path / "splits.zip"):
        found = rows(table.read(given("protein", place), file="two_vs_rest.csv"))
        assert found == [("MKV", "1.0", False), ("MKA", "0.5", True)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("record,class\na,1\n", r"no column 'label' among record, class"),
        ("record,label\na,1,2\n", "line 2 has 3 cells, the header 2"),
        ("record,label\na,\n", "line 2: its label is empty; a test set without labels cannot be used"),
        ("record,label,set\na,1,train\nb,1,tset\n", "line 3: the set 'tset' is neither train nor test"),
        ("record,label\n", "no labelled row in it"),
        ("record,label\n\ta,1\n", None),
    ],
)
def test_what_is_wrong_with_a_table(given, tmp_path, content, message):
    (tmp_path / "t.csv").write_text(content)
    if message is None:
        assert len(table.read(given("text", tmp_path / "t.csv")).examples) == 1
        return
    with pytest.raises(BadRecord, match=message) as error:
        table.read(given("text", tmp_path / "t.csv"))
    assert "t.csv" in str(error.value)


def test_several_tables_of_no_known_name(given, tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text("record,label\nthe row,1\n")
    with pytest.raises(BadRecord, match=r"several tables \(a.csv, b.csv\)"):
        table.read(given("text", tmp_path))


def test_a_residue_that_is_none(given, tmp_path):
    (tmp_path / "t.csv").write_text("record,label\nMK9,1\n")
    with pytest.raises(BadRecord, match=r"t.csv, record 2: '9' at residue 3"):
        table.read(given("protein", tmp_path / "t.csv"))


def test_minimal_pairs_of_an_archive(given, tmp_path):
    lines = [{"sentence_good": f"good {i}", "sentence_bad": f"bad {i}", "UID": "island"} for i in range(3)]
    data = "\n".join(map(json.dumps, lines)).encode()
    with tarfile.open(tmp_path / "blimp.tar.xz", "w:xz") as archive:
        for name in ("blimp/island.jsonl", "blimp/README.txt"):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    for place in (tmp_path, tmp_path / "blimp.tar.xz"):
        found = minimal_pairs.read(given("text", place))
        assert rows(found) == [(f"good {i}", f"bad {i}", "island", True) for i in range(3)]


def test_a_paradigm_is_the_file_where_a_line_does_not_say(given, tmp_path):
    (tmp_path / "agreement.jsonl").write_text('{"sentence_good": "a", "sentence_bad": "b"}\n')
    assert minimal_pairs.read(given("text", tmp_path)).examples[0].label == "agreement"
    (tmp_path / "agreement.jsonl").write_text('{"good": "a"}\n')
    with pytest.raises(BadRecord, match=r"agreement.jsonl: line 1: no JSON with the keys 'sentence_good'"):
        minimal_pairs.read(given("text", tmp_path))


def test_recordings_of_a_folder_and_of_an_archive(given, tmp_path):
    (tmp_path / "r").mkdir()
    with tarfile.open(tmp_path / "r.tar", "w") as archive:
        for name in ("0_theo_0.wav", "1_theo_5.wav", "1_lucas_17.wav", "noise.wav"):
            soundfile.write(tmp_path / "r" / name, np.random.default_rng(0).normal(0, 0.1, 900), 4000)
            archive.add(tmp_path / "r" / name, f"recordings/{name}")
    (tmp_path / "r" / "README.md").write_text("no sound")
    for place in (tmp_path / "r", tmp_path / "r.tar"):
        found = recordings.read(given("audio", place), **FSDD)
        assert sorted((e.key, e.label, e.test) for e in found.examples) == [
            ("0_theo_0.wav", "0", True),
            ("1_lucas_17.wav", "1", False),
            ("1_theo_5.wav", "1", False),
        ]
        assert found.notes == ["1 sound files have other names: left out"]
        assert all(len(given("audio").tokenizer.tokenize(e.records[0])) > 0 for e in found.examples)
    by_speaker = recordings.read(given("audio", tmp_path / "r"), FSDD["pattern"], {"speaker": "theo"})
    assert sorted((e.key, e.test) for e in by_speaker.examples)[1] == ("1_lucas_17.wav", False)
    (tmp_path / "labels.csv").write_text("record,label\nr/0_theo_0.wav,zero\n")
    assert recordings.read(given("audio", tmp_path / "labels.csv"), **FSDD).examples[0].label == "zero"


def test_recordings_of_one_name_in_two_folders_are_two_records(given, tmp_path):
    with tarfile.open(tmp_path / "r.tar", "w") as archive:
        for speaker in ("anna", "bob"):
            (tmp_path / "r" / speaker).mkdir(parents=True)
            soundfile.write(tmp_path / "r" / speaker / "cat_0.wav", np.random.default_rng(0).normal(0, 0.1, 900), 4000)
            archive.add(tmp_path / "r" / speaker / "cat_0.wav", f"sounds/{speaker}/cat_0.wav")
    for place in (tmp_path / "r", tmp_path / "r.tar"):
        found = recordings.read(given("audio", place), r"(?P<label>cat|dog)_[0-9]\.wav")
        assert [e.key for e in found.examples] == ["anna/cat_0.wav", "bob/cat_0.wav"]


@pytest.mark.parametrize(
    ("pattern", "test", "message"),
    [
        ("(?P<label>x", {}, "no regular expression"),
        ("x", {}, r"has no group 'label'"),
        ("(?P<label>x)", {"who": "a"}, r"has no group 'who'"),
        (r"(?P<label>y)\.wav", {}, "no sound file in it has a name like"),
    ],
)
def test_patterns_that_cannot_be_used(given, tmp_path, pattern, test, message):
    (tmp_path / "x.wav").write_bytes(b"")
    with pytest.raises(ValueError, match=message):
        recordings.read(given("audio", tmp_path), pattern, test)


def test_images_of_one_file_and_of_two(given, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "train.npz", images=pixels, labels=np.arange(5))
    alone = images.read(given("image", tmp_path / "train.npz"))
    assert [(e.label, e.test) for e in alone.examples] == [(i, None) for i in range(5)]
    assert not images.read(given("image", tmp_path)).has_test
    np.savez(tmp_path / "test.npz", images=pixels[:2], labels=np.arange(2))
    both = images.read(given("image", tmp_path))
    assert [e.test for e in both.examples] == [False] * 5 + [True] * 2
    assert both.examples[0].key == both.examples[5].key
    sides = given("image", train=tmp_path / "train.npz", test=tmp_path / "test.npz")
    assert rows(images.read(sides)) == rows(both)
    np.savez(tmp_path / "test.npz", images=pixels[:2])
    with pytest.raises(BadRecord, match="no labels: an array 'labels'"):
        images.read(given("image", tmp_path))


def test_states_as_flip_has_them(given, tmp_path):
    (tmp_path / "sequences.fasta").write_text(">a\nMKVA\n>b\nMK\nAY\n>c\nMKT\n")
    (tmp_path / "sampled.fasta").write_text(
        ">a SET=train VALIDATION=False\nHHEC\n>b SET=test VALIDATION=False\nCCCC\n>c SET=train VALIDATION=True\nHHH\n"
    )
    (tmp_path / "mask.fasta").write_text(">a\n0111\n>b\n1110\n>c\n111\n")
    found = residues.read(given("protein", tmp_path))
    assert rows(found) == [("MKVA", "-HEC", False), ("MKAY", "CCC-", True)]
    assert found.notes == ["1 validation proteins are left out"]
    (tmp_path / "sampled.fasta").write_text(">a SET=train\nHH\n")
    with pytest.raises(BadRecord, match="record a: 4 residues, 2 states, 4 places of the mask"):
        residues.read(given("protein", tmp_path))


def test_a_file_of_states_that_is_not_there(given, tmp_path):
    (tmp_path / "sequences.fasta").write_text(">a\nMKVA\n")
    with pytest.raises(BadRecord, match=r"no sampled.fasta in it, only sequences.fasta"):
        residues.read(given("protein", tmp_path))


def test_contacts_of_a_line(given, tmp_path):
    (tmp_path / "c.jsonl").write_text(
        '{"record": "MKV", "contacts": [[0, 2]], "set": "test"}\n\n{"record": "MA", "contacts": []}\n'
    )
    assert rows(contacts.read(given("protein", tmp_path / "c.jsonl"))) == [("MKV", [(0, 2)], True), ("MA", [], None)]
    (tmp_path / "c.jsonl").write_text('{"record": "MKV", "contacts": [[0, 2, 3]]}\n')
    with pytest.raises(BadRecord, match="line 1: not"):
        contacts.read(given("protein", tmp_path / "c.jsonl"))


@pytest.mark.parametrize("ending", ["zip", "tar.xz", "tar.gz"])
def test_a_broken_archive_is_one_line(tmp_path, ending):
    (tmp_path / f"a.{ending}").write_bytes(b"PK\3\4 not an archive")
    with pytest.raises(BadRecord, match=rf"a.{ending}: (a broken archive|holds no file)"):
        list(files(tmp_path / f"a.{ending}", lambda name: True))


def test_archives_are_read_with_a_cap(tmp_path, monkeypatch):
    monkeypatch.setattr("mmm.evaluation.opening.LARGEST", 100)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.csv", "0" * 10_000)
    with pytest.raises(BadRecord, match=r"bomb.csv: more than 100 bytes"):
        list(files(tmp_path / "a.zip", lambda name: True))


def test_links_of_an_archive_are_not_followed(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        link = tarfile.TarInfo("x.csv")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        archive.addfile(link)
    with pytest.raises(BadRecord, match="holds no file of the kind"):
        list(files(tmp_path / "a.tar", lambda name: True))


def test_files_of_one_name_in_two_folders_are_two_records(given, tmp_path):
    random = np.random.default_rng(0)
    for side in ("train", "test"):
        (tmp_path / side).mkdir()
        PIL.Image.fromarray(random.integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / side / "a.png")
        shutil.copy(tmp_path / "train" / "a.png", tmp_path / side / "b.png")
        (tmp_path / side / "t.csv").write_text("record,label\na.png,1\nb.png,0\n")
    sides = given("image", train=tmp_path / "train" / "t.csv", test=tmp_path / "test" / "t.csv")
    learned, same, held, copied = (e.key for e in table.read(sides).examples)
    assert learned != held
    assert learned == same == copied
