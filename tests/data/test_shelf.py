"""Records on disk: the same records, in the same order, read once."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import mmm, save, values, write

from mmm.core.errors import BadRecord
from mmm.core.modality import Record
from mmm.data import shelf as shelves
from mmm.data.loaders import Steps
from mmm.data.mixture import sample_of
from mmm.data.module import Data
from mmm.data.shelf import Shelf, Shelves, _Strings, _Writer, shelved
from mmm.modalities.image import Image
from mmm.modalities.protein import Protein
from mmm.modalities.text import Text


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MMM_DATA", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def large(monkeypatch):
    """Every file is a large one."""
    monkeypatch.setattr(shelves, "SMALLEST", 0)


def read(files: dict[str, str], **arguments) -> Data:
    data = Data(files=files, tokens_per_batch=200, validation=0.3, **arguments)
    modalities = {"text": Text(vocabulary=270, max_length=24, record_words=8), "protein": Protein(max_length=24)}
    modalities = {name: modalities[name] for name in files}
    data.read(modalities, seed=3)
    for name, modality in modalities.items():
        modality.fit(data.training_records(name))
    return data


def steps(data: Data, count: int = 12) -> list:
    plans = Steps(data, 0, 1, {})
    return [plans.batch(plan) for plan, _ in zip(plans.plans(), range(count), strict=False)]


def same(a: list, b: list) -> bool:
    return all(
        x.cursor == y.cursor
        and all(torch.equal(x.micro[0].content[n], y.micro[0].content[n]) for n in x.micro[0].names)
        and torch.equal(x.micro[0].layout.sample_S, y.micro[0].layout.sample_S)
        for x, y in zip(a, b, strict=True)
    )


def kept(home) -> list:
    return sorted(p.name for p in (home / "home" / "shelves").iterdir()) if (home / "home" / "shelves").exists() else []


def test_the_same_batches_split_and_fingerprint(home, monkeypatch):
    files = write(home / "files", ["text", "protein"], records=200)
    plain = read(files)
    assert kept(home) == []
    monkeypatch.setattr(shelves, "SMALLEST", 0)
    data = read(files)
    assert len(kept(home)) == 2
    assert all(isinstance(examples, Shelf) for split in data._splits.values() for _, _, examples in split)
    assert data.describe() == plain.describe()
    assert data.fingerprint() == plain.fingerprint()
    for split in ("train", "validation"):
        for name in files:
            assert list(data.records(name, split)) == list(plain.records(name, split))
    assert same(steps(data), steps(plain))
    few = [read(files, validation_records=7) for _ in range(2)]
    few.append(plain)
    plain.validation_records = 7
    held = [[[dict(e) for e in source.examples] for source in d.sources("validation")] for d in few]
    assert held[0] == held[1] == held[2]
    assert [len(examples) for examples in held[0]] == [7, 7]


def test_nothing_is_read_or_measured_twice(home, large, monkeypatch):
    files = write(home / "files", ["protein"])
    first = steps(read(files))

    def never(*_):
        raise AssertionError("read again")

    monkeypatch.setattr("mmm.modalities.protein.ProteinTokenizer.records", never)
    monkeypatch.setattr("mmm.modalities.protein.ProteinTokenizer.length", never)
    assert same(first, steps(read(files)))


def test_lengths_belong_to_a_vocabulary(home, large):
    files = write(home / "files", ["text"], records=100)
    data = read(files)
    short = data.sources("train")[0].lengths
    data.modalities["text"] = Text(vocabulary=300, max_length=24, record_words=8)
    data.modalities["text"].fit(data.training_records("text"))
    data.tokenizers["text"] = data.modalities["text"].tokenizer
    other = data.sources("train")[0].lengths
    wanted = [data.tokenizers["text"].length(r) for r in data.training_records("text")]
    assert list(other) == wanted != list(short)
    (folder,) = (home / "home" / "shelves").iterdir()
    assert len(list(folder.glob("lengths-*.npy"))) == 2


@pytest.mark.parametrize("unit", ["token", "word"])
def test_ids_are_kept_for_a_vocabulary(home, large, monkeypatch, unit):
    files = write(home / "files", ["text"], records=100)

    def fresh(vocabulary=270):
        data = Data(files=files, tokens_per_batch=200, validation=0.3)
        text = Text(vocabulary=vocabulary, max_length=12, record_words=8, unit=unit)  # some are cut to a window
        data.read({"text": text}, seed=3)
        text.fit(data.training_records("text"))
        return data

    with monkeypatch.context() as without:
        without.setattr(shelves.Shelf, "encoded", lambda self, modality: self)
        wanted = steps(fresh())
    assert same(steps(fresh()), wanted)

    def never(*_):
        raise AssertionError("encoded again")

    data = fresh()
    with monkeypatch.context() as mute:
        mute.setattr("mmm.modalities.text.TextTokenizer._encode", never)
        found = steps(data)
    assert same(found, wanted)
    units = [[step.micro[0].layout.unit_T for step in made] for made in (found, wanted)]
    assert all(torch.equal(a, b) for a, b in zip(*units, strict=True))
    assert any(bool((a.diff() == 0).any()) for a in units[0]) == (unit == "word")
    examples = data.sources("train", encoded=True)[0].examples
    copied = pickle.loads(pickle.dumps(examples))
    assert [e["text"] for e in copied] == [e["text"] for e in examples] == list(data.training_records("text"))
    assert all(torch.equal(a["text"].raw.codes, b["text"].raw.codes) for a, b in zip(copied, examples, strict=True))
    plain = [e["text"].raw for e in data.sources("train")[0].examples]  # for whoever has another tokenizer
    assert {type(raw) for raw in plain} == {str}
    fresh(280).sources("train")
    (folder,) = (home / "home" / "shelves").iterdir()
    assert len(list(folder.glob("codes-*.npy"))) == len(list(folder.glob("codes-*.bin"))) == 2
    monkeypatch.setattr("mmm.modalities.text.TextTokenizer.library", "another version")
    fresh().sources("train", encoded=True)
    assert len(list(folder.glob("codes-*.npy"))) == len(list(folder.glob("lengths-*.npy"))) == 3


@pytest.mark.parametrize("unit", ["token", "word"])
def test_ids_of_small_files_are_kept_in_memory(home, monkeypatch, unit):
    files = write(home / "files", ["text"], records=40)
    data = Data(files=files, tokens_per_batch=200, validation=0.3)
    text = Text(vocabulary=270, max_length=12, record_words=8, unit=unit)  # some are cut to a window
    data.read({"text": text}, seed=3)
    text.fit(data.training_records("text"))
    with monkeypatch.context() as without:
        without.setattr("mmm.data.module.known", lambda examples, tokenizers: examples)
        wanted = steps(data)
    feed = Steps(data, 0, 1, {})
    monkeypatch.setattr("mmm.modalities.text.TextTokenizer._encode", None)
    assert same([feed.batch(plan) for plan in islice(feed.plans(), len(wanted))], wanted)
    assert {type(e["text"].raw) for e in data._splits["train"][0][2]} == {str}  # for whoever has another tokenizer
    known = feed.sources[0].examples
    assert known[-1] == known[len(known) - 1] == known[-2:][1]
    assert [e["text"] for e in known] == [e["text"] for e in data._splits["train"][0][2]]
    assert known.samples.tolist() == [sample_of(e) for e in known]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are counted in /proc")
def test_ids_travel_to_a_worker_without_files_of_their_own(home):
    """A tensor takes one, and a batch has more records than a process may have files."""
    data = read(write(home / "files", ["text"], records=200))
    examples = list(data.sources("train", encoded=True)[0].examples)
    before = len(list(Path("/proc/self/fd").iterdir()))
    sent = ForkingPickler.dumps(examples)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    found = pickle.loads(sent)
    assert all(torch.equal(a["text"].raw.codes, b["text"].raw.codes) for a, b in zip(found, examples, strict=True))


@pytest.mark.parametrize("kept", [-3, None])
@pytest.mark.parametrize("kind", [".bin", ".npy"])
def test_broken_ids_are_made_again(home, large, caplog, kind, kept):
    data = read(write(home / "files", ["text"], records=100))
    wanted = steps(data)
    (place,) = (home / "home" / "shelves").glob(f"*/codes-*{kind}")
    whole = place.read_bytes()
    place.unlink()
    if kept is not None:
        place.write_bytes(whole[:kept])
    with caplog.at_level("WARNING", "mmm"):
        assert same(steps(data), wanted)
    assert ("is broken" in caplog.text) == (kept is not None or kind == ".bin")
    assert place.read_bytes() == whole


def test_ids_that_cannot_be_kept_are_made_in_every_run(home, large, monkeypatch, caplog):
    data = read(write(home / "files", ["text"], records=100))

    def full(*_):
        raise OSError("no space left")

    with monkeypatch.context() as filled, caplog.at_level("WARNING", "mmm"):
        filled.setattr(shelves.Shelf, "_encode", full)
        found = steps(data)
    assert "no space left" in caplog.text
    assert not list((home / "home").glob("shelves/*/codes-*"))
    assert same(found, steps(data))


def test_a_record_that_cannot_be_encoded_is_named(home, large, monkeypatch):
    data = read(write(home / "files", ["text"], records=100))

    def refuse(self, raw):
        raise ValueError("not today")

    monkeypatch.setattr("mmm.modalities.text.TextTokenizer.encode", refuse)
    with pytest.raises(BadRecord, match=r"record 1: not today"):
        data.sources("train")
    assert not list((home / "home").glob("shelves/*/codes-*"))


def test_another_file_date_or_cut_is_another_shelf(home, large):
    path = home / "some.txt"
    path.write_text("\n\n".join(f"the words of paragraph {i} are few" for i in range(40)))
    found = [shelved("text", [path], Text(vocabulary=270, record_words=words).tokenizer) for words in (8, 8, 20)]
    assert found[0].folder == found[1].folder != found[2].folder
    assert len(found[0]) > len(found[2])
    assert shelved("text", [path], Text(vocabulary=270, record_words=8, max_length=99).tokenizer).folder == found[0].folder
    path.write_text(path.read_text() + "\n\none more paragraph, longer than the others were")
    assert shelved("text", [path], Text(vocabulary=270, record_words=8).tokenizer).folder not in [f.folder for f in found]


def test_a_record_says_where_it_came_from(home, large):
    (home / "a.fasta").write_text(">one\nMKV\n>two words\nACD\n")
    (home / "b.fasta").write_text(">three\nWWW\n")
    found = shelved("protein", [home / "a.fasta", home / "b.fasta"], Protein().tokenizer)
    plain = [r for p in ("a", "b") for r in Protein().tokenizer.records(home / f"{p}.fasta")]
    assert [e["protein"] for e in found] == plain
    assert found.samples.tolist() == [sample_of({"protein": r}) for r in plain]
    assert [e["protein"].raw for e in found[1:]] == ["ACD", "WWW"]
    assert [e["protein"].raw for e in found.select(np.array([2, 0]))] == ["WWW", "MKV"]


def test_a_record_may_be_known_by_something_else(home, large, monkeypatch):
    path = home / "some.fasta"
    path.write_text(">one\nMKV\n>two\nVKM\n")
    plain = list(Protein().tokenizer.records(path))
    turned = [Record(r.path, r.record, r.raw, min(r.raw, r.raw[::-1]).encode()) for r in plain]
    monkeypatch.setattr("mmm.modalities.protein.ProteinTokenizer.records", lambda self, path: iter(turned))
    assert [e["protein"] for e in shelved("protein", [path], Protein().tokenizer)] == turned


def test_workers_map_the_files_themselves(home, large):
    data = read(write(home / "files", ["protein"], records=300))
    _, _, examples = data._splits["train"][0]
    pickled = pickle.dumps(examples)
    assert len(pickled) < 20 * len(examples)
    assert list(pickle.loads(pickled)) == list(examples)


def test_a_bad_record_leaves_nothing_behind(home, large):
    path = home / "bad.txt"
    path.write_bytes(b"good words\n\nbad \xff words")
    with pytest.raises(BadRecord, match="not UTF-8"):
        shelved("text", [path], Text(vocabulary=270, record_words=1).tokenizer)
    assert kept(home) == []


def test_what_is_more_than_a_text_stays_in_memory(home, large):
    labelled = home / "labelled.jsonl"
    labelled.write_text("".join(json.dumps({"text": f"some words {i}", "label": "a"}) + "\n" for i in range(3)))
    assert shelved("text", [labelled], Text(vocabulary=270).tokenizer) is None
    assert shelved("image", [labelled], Image().tokenizer) is None
    assert kept(home) == []


def test_where_nothing_can_be_written_records_stay_in_memory(home, large, monkeypatch, caplog):
    (home / "a.fasta").write_text(">one\nMKV\n")
    (home / "file").write_text("")
    monkeypatch.setenv("MMM_DATA", str(home / "file"))
    with caplog.at_level("WARNING", "mmm"):
        assert shelved("protein", [home / "a.fasta"], Protein().tokenizer) is None
    assert "kept in memory" in caplog.text


@pytest.mark.parametrize("file", ["text.bin", "text.npy", "samples.npy", "keys.npy"])
def test_a_broken_shelf_is_made_again(home, large, caplog, file):
    path = home / "a.fasta"
    path.write_text(">one\nMKV\n>two\nACD\n")
    shelf = shelved("protein", [path], Protein().tokenizer)
    whole = list(shelf)
    (shelf.folder / file).write_bytes((shelf.folder / file).read_bytes()[:-3])
    with caplog.at_level("WARNING", "mmm"):
        assert list(shelved("protein", [path], Protein().tokenizer)) == whole
    assert "is broken" in caplog.text
    assert kept(home) == [shelf.folder.name]


def test_several_processes_make_one_shelf(home, large):
    path = home / "a.fasta"
    path.write_text("".join(f">p{i}\n{'ACDEF' * (i + 1)}\n" for i in range(200)))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: list(shelved("protein", [path], Protein().tokenizer)), range(4)))
    assert all(records == found[0] for records in found)
    assert len(kept(home)) == 1


def test_lengths_that_cannot_be_kept_are_measured(home, large, monkeypatch, caplog):
    data = read(write(home / "files", ["protein"]))

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(shelves, "_save", full)
    with caplog.at_level("WARNING", "mmm"):
        lengths = data.sources("train")[0].lengths
    assert list(lengths) == [data.tokenizers["protein"].length(r) for r in data.training_records("protein")]
    assert "no space left" in caplog.text


def test_a_record_that_cannot_be_measured_is_named(home, large, monkeypatch):
    path = home / "a.fasta"
    path.write_text(">one\nMKV\n>two\nACD\n")
    shelf = shelved("protein", [path], Protein().tokenizer)

    def refuse(self, record):
        raise ValueError("not today")

    monkeypatch.setattr("mmm.modalities.protein.ProteinTokenizer.length", refuse)
    with pytest.raises(BadRecord, match=r"a\.fasta.*one.*not today"):
        shelf.lengths(Protein())


def test_files_are_called_as_they_are_called_now(home, large, monkeypatch):
    (home / "here").mkdir()
    (home / "a.fasta").write_text(">one\nMKV\n")
    monkeypatch.chdir(home)
    first = shelved("protein", [Path("a.fasta")], Protein().tokenizer)
    monkeypatch.chdir(home / "here")
    second = shelved("protein", [Path("../a.fasta")], Protein().tokenizer)
    assert first.folder == second.folder
    assert [s[0]["protein"].path for s in (first, second)] == ["a.fasta", "../a.fasta"]


def test_several_sources_are_one_sequence(home, large):
    (home / "a.fasta").write_text(">one\nMKV\n>two\nACD\n")
    shelf = shelved("protein", [home / "a.fasta"], Protein().tokenizer)
    own = [Record("x", 1, "WWW", b"WWW")]
    both = Shelves([shelf, own, shelf])
    assert len(both) == 5
    assert [r.raw for r in both] == [both[i].raw for i in range(5)] == ["MKV", "ACD", "WWW", "MKV", "ACD"]
    assert both[-1].raw == "ACD"
    assert [r.raw for r in both[1:3]] == ["ACD", "WWW"]
    with pytest.raises(IndexError):
        both[5]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_strings_come_back(tmp_path_factory, texts):
    place = tmp_path_factory.mktemp("strings") / "text"
    with _Writer(place) as writer:
        for text in texts:
            writer.add(text.encode())
    found = _Strings(place)
    assert [found[i].decode() for i in range(len(found))] == texts


def test_a_run_is_equal_to_the_last_bit(home, monkeypatch):
    recipe = values(write(home / "files", ["text", "protein"], records=120), steps=6)
    path = save(home / "tiny.yaml", recipe)
    assert mmm("run", path, "--run_dir", home / "plain").status == 0
    monkeypatch.setattr(shelves, "SMALLEST", 0)
    for name, words in {"shelf": [], "workers": ["--data.workers", "2"]}.items():
        done = mmm("run", path, "--run_dir", home / name, *words)
        assert done.status == 0, done.err
        assert (home / name / "losses.csv").read_bytes() == (home / "plain" / "losses.csv").read_bytes()
    assert len(kept(home)) == 2


def test_what_is_read_is_said(home, large, caplog):
    with caplog.at_level("INFO", "mmm"):
        steps(read(write(home / "files", ["protein"])), 1)
    assert "are read once" in caplog.text
    assert "are measured, once" in caplog.text
