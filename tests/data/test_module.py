"""Records in: one's own files and cards, split by hash. Batches out: the same for any number of workers and processes."""

import io
import logging
import pickle
import random
import shutil
from collections import Counter
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import soundfile
import torch
from tiny import write

from mmm.core.errors import BadRecipe, BadRecord
from mmm.core.modality import Modality
from mmm.data.cards import load_card
from mmm.data.loaders import AROUND
from mmm.data.module import VALIDATION_EPOCH, Data, Held, Steps
from mmm.modalities.audio import Audio
from mmm.modalities.image import Image
from mmm.modalities.protein import Protein
from mmm.modalities.text import Text

CARD = """\
name: {name}
title: A toy
modality: protein
source: {{url: "https://example.org", citation: Nobody}}
licence: CC0-1.0
size: {{records: 2, bytes: about 10}}
splits: {{train: all of it, validation: {validation}}}
files: {files}
checksum: null
checksum_note: it is a toy
preprocessing: none
intended_use: tests
known_limits: small
prepare: {{manual: Write it.}}
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root and a folder of cards."""
    (tmp_path / "cards").mkdir()
    monkeypatch.setenv("MMM_CARDS", str(tmp_path / "cards"))
    monkeypatch.setenv("MMM_DATA", str(tmp_path / "data"))
    return tmp_path


def small(name: str) -> Modality:
    return {
        "text": lambda: Text(vocabulary=270, max_length=24, record_words=8),
        "image": lambda: Image(size=8, patch=4, channels=1),
        "audio": lambda: Audio(rate=4000, mels=8, hop_ms=20.0, max_seconds=0.6),
        "protein": lambda: Protein(max_length=24),
    }[name]()


def read(files: dict[str, str | list[str]], *names: str, fit: bool = False, **arguments) -> Data:
    """The data of small modalities: those of the files, or those that are named."""
    arguments = {"validation": 0.3, "tokens_per_batch": 128} | arguments
    data = Data(files=files, **arguments)
    modalities = {name: small(name) for name in names or files}
    data.read(modalities, 0)
    for name, modality in modalities.items():
        if fit:
            modality.fit(data.training_records(name))
    return data


def proteins(number: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices("ACDEFGHIKLMNPQRSTVWY", k=rng.randint(8, 20))) for _ in range(number)]


def fasta(path: Path, sequences: list[str], prefix: str = "p") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f">{prefix}{i}\n{s}\n" for i, s in enumerate(sequences)))
    return str(path)


def sides(data: Data, name: str = "protein") -> dict[str, list[str]]:
    """Raw values of each split."""
    return {
        split: [e[name].raw for s in data.sources(split) for e in s.examples if name in e] for split in ("train", "validation")
    }


def card(home: Path, name: str, sequences: dict[str, list[str]], validation: str = "10%") -> None:
    files = ", ".join(f'{split}: "{split}.fasta"' for split in sequences)
    (home / "cards" / f"{name}.yaml").write_text(CARD.format(name=name, validation=validation, files="{" + files + "}"))
    for split, these in sequences.items():
        fasta(home / "data" / name / f"{split}.fasta", these, f"{name}-{split}-")


# -- finding files -------------------------------------------------------------------------------------------------------------


def test_a_file_a_folder_a_glob_and_several(home):
    one, two = (fasta(home / "own" / sub / "x.fasta", proteins(20, seed)) for seed, sub in enumerate(("a", "b/c")))
    (home / "own" / "notes.md").write_text("not to be read")
    everything = Counter(proteins(20, 0) + proteins(20, 1))

    def found(patterns: str | list[str]) -> Counter:
        split = sides(read({"protein": patterns}))
        return Counter(split["train"] + split["validation"])

    assert found(one) == Counter(proteins(20, 0))
    assert found(str(home / "own")) == everything
    assert found(str(home / "own" / "**" / "*.fasta")) == everything
    assert found([one, two]) == everything


def test_a_file_that_two_patterns_name_is_read_once(home):
    one = fasta(home / "own" / "x.fasta", proteins(20))
    split = sides(read({"protein": [one, str(home / "own"), str(home / "own" / "*.fasta")]}))
    assert Counter(split["train"] + split["validation"]) == Counter(proteins(20))


def test_a_home_is_found(home, monkeypatch):
    monkeypatch.setenv("HOME", str(home))
    fasta(home / "own.fasta", proteins(20))
    assert sides(read({"protein": "~/own.fasta"}))["train"]


@pytest.mark.parametrize("pattern", ["none.fasta", "none/*.fasta", "empty"])
def test_a_pattern_that_finds_nothing_is_named(home, pattern):
    (home / "empty").mkdir()
    (home / "empty" / "notes.md").write_text("not to be read")
    with pytest.raises(BadRecipe, match=rf"data\.files\.protein: '.*{pattern.replace('*', '.')}' matches no file \(\.fasta"):
        read({"protein": str(home / pattern)})


def test_an_ending_that_cannot_be_read_is_named(home):
    (home / "x.doc").write_text("ACD")
    with pytest.raises(BadRecipe, match=r"x\.doc cannot be read; endings that can: \.fasta.*\.csv, \.tsv"):
        read({"protein": str(home / "x.doc")})


def test_an_unknown_modality_is_named(home):
    with pytest.raises(BadRecipe, match=r"data\.files: the model has no modality 'protien'\. Did you mean 'protein'\?"):
        read({"protien": fasta(home / "x.fasta", proteins(5))}, "protein")


def test_no_data_is_an_error():
    with pytest.raises(BadRecipe, match=r"no data: name cards in data\.cards, or one's own files in data\.files\.MODALITY"):
        read({}, "protein")


@pytest.mark.parametrize("share", [0, 1, -0.1, float("nan")])
def test_a_share_is_a_share(share):
    with pytest.raises(ValueError, match="validation"):
        Data(validation=share)


@pytest.mark.parametrize("records", [0, -5])
def test_a_number_of_validation_records_is_one_or_more(records):
    with pytest.raises(ValueError, match=f"validation_records {records}: 1 or more, or null"):
        Data(validation_records=records)


# -- cards ---------------------------------------------------------------------------------------------------------------------


def test_files_replace_the_cards_of_their_modality_and_take_their_weight(home):
    card(home, "toy", {"train": ["AAAAAAA"]})
    card(home, "tray", {"train": ["CCCCCCC"]})
    (load_card("tray").root() / "train.fasta").unlink()  # not there, and not asked for
    data = read({"protein": fasta(home / "x.fasta", proteins(30))}, cards={"toy": 3, "tray": 0.5})
    assert [(s.name, s.weight) for s in data.sources("train")] == [("files.protein", 3.5)]
    assert "AAAAAAA" not in {raw for side in sides(data).values() for raw in side}


def test_a_card_keeps_its_weight_and_its_own_validation_set(home):
    card(home, "toy", {"train": proteins(40), "validation": proteins(3, 1)}, "files of its own")
    data = read({}, "protein", cards={"toy": 3})
    assert [(s.name, s.weight) for s in data.sources("train")] == [("toy", 3)]
    assert Counter(sides(data)["train"]) == Counter(proteins(40))
    assert Counter(sides(data)["validation"]) == Counter(proteins(3, 1))


def test_held_out_records_of_a_card_that_are_training_records_are_counted(home, caplog):
    card(home, "toy", {"train": proteins(40), "validation": [*proteins(3, 1), *proteins(2)]}, "files of its own")
    data = read({}, "protein", cards={"toy": 3})
    assert data.repeated == {"toy": 2}
    assert "card 'toy': 2 of 5 records are training records, too" in caplog.text


def test_a_card_says_which_share_is_held_out(home):
    card(home, "toy", {"train": proteins(400)}, "10%")
    assert 20 <= len(sides(read({}, "protein", cards={"toy": 1}, validation=0.9))["validation"]) <= 60


def test_a_card_of_a_modality_the_model_lacks_is_named(home):
    card(home, "toy", {"train": proteins(4)})
    with pytest.raises(BadRecipe, match=r"card 'toy' holds 'protein', which this model does not have"):
        read({}, "text", cards={"toy": 1})


def test_unknown_cards_and_data_that_are_not_there_are_named(home):
    card(home, "toy", {"train": proteins(4)})
    with pytest.raises(BadRecipe, match=r"unknown data card 'toi'\. Did you mean 'toy'\?"):
        read({}, "protein", cards={"toi": 1})
    (load_card("toy").root() / "train.fasta").unlink()
    with pytest.raises(BadRecipe, match=r"card 'toy': no train\.fasta in .*mmm data prepare toy"):
        read({}, "protein", cards={"toy": 1})


# -- the split -----------------------------------------------------------------------------------------------------------------


def test_the_side_of_a_record_hangs_on_the_record_alone(home):
    everything = proteins(200)
    whole = {side: set(found) for side, found in sides(read({"protein": fasta(home / "x.fasta", everything)})).items()}
    assert whole["train"] | whole["validation"] == set(everything)
    for seed in range(3):
        some = random.Random(seed).sample(everything, 90)  # another order, other neighbours, another file
        split = sides(read({"protein": fasta(home / f"{seed}.fasta", some, "q")}))
        for side in whole:
            assert set(split[side]) == whole[side] & set(some)


def test_duplicates_are_on_one_side(home):
    files = [fasta(home / f"{i}.fasta", proteins(100), f"copy{i}-") for i in range(3)]
    split = sides(read({"protein": files}))
    assert not set(split["train"]) & set(split["validation"])
    assert Counter(split["train"] + split["validation"]) == Counter(proteins(100) * 3)


def test_the_share_that_is_held_out(home):
    files = {"protein": fasta(home / "x.fasta", proteins(2000))}
    for share in (0.05, 0.5):
        held = len(sides(read(files, validation=share, validation_records=None))["validation"])
        assert abs(held - 2000 * share) < 5 * (2000 * share * (1 - share)) ** 0.5


def test_few_validation_records_are_said_aloud_and_none_is_an_error(home, caplog):
    with caplog.at_level(logging.WARNING, "mmm"):
        read({"protein": fasta(home / "x.fasta", proteins(40))})
        assert any("validation records; intervals will be wide" in m for m in caplog.messages)
        caplog.clear()
        read({"protein": fasta(home / "x.fasta", proteins(200))})
        assert not caplog.messages
    with pytest.raises(BadRecipe, match=r"data 'files\.protein': no record fell into the validation set"):
        read({"protein": fasta(home / "x.fasta", proteins(1))}, validation=0.0001)


def test_no_training_record_is_an_error(home):
    with pytest.raises(BadRecipe, match=r"data 'files\.protein': no record fell into the training set"):
        read({"protein": fasta(home / "x.fasta", proteins(1))}, validation=0.9999)


def test_a_split_that_was_refused_is_refused_again(home):
    """The Trainer asks twice: once where one process works, then in each."""
    data = Data(files={"protein": fasta(home / "x.fasta", proteins(1))}, validation=0.9999)
    for _ in range(2):
        data.trainer = SimpleNamespace(lightning_module=SimpleNamespace(modalities={"protein": Protein()}, seed=0))
        with pytest.raises(BadRecipe, match="no record fell into the training set"):
            data.setup("fit")


def test_at_most_so_many_validation_records_are_used_chosen_by_themselves(home, caplog):
    everything = proteins(300)
    with caplog.at_level(logging.INFO, "mmm"):
        chosen = sides(read({"protein": fasta(home / "x.fasta", everything)}, validation_records=10))["validation"]
    assert len(chosen) == 10
    assert any("10 of" in m and "validation records are used" in m for m in caplog.messages)
    again = sides(read({"protein": fasta(home / "y.fasta", everything[::-1])}, validation_records=10))["validation"]
    assert Counter(chosen) == Counter(again)


# -- batches -------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def everything(tmp_path_factory) -> dict[str, str]:
    """Files of four modalities."""
    return write(tmp_path_factory.mktemp("files"))


def batches(data: Data, number: int, **trainer) -> list:
    data.trainer = SimpleNamespace(**{"global_rank": 0, "world_size": 1} | trainer)
    loader = data.train_dataloader()
    found = list(islice(loader, number))
    data.trainer = None
    return found


def assert_same(a, b) -> None:
    assert a.cursor == b.cursor
    for one, other in zip(a.micro, b.micro, strict=True):
        assert one.content.keys() == other.content.keys()
        assert all(torch.equal(one.content[n], other.content[n]) for n in one.content)
        assert torch.equal(one.layout.sample_S, other.layout.sample_S)
        assert torch.equal(one.layout.epoch_S, other.layout.epoch_S)


def test_workers_change_nothing(everything):
    alone = batches(read(everything, fit=True), 6)
    helped = batches(read(everything, fit=True, workers=2), 6)
    for a, b in zip(alone, helped, strict=True):
        assert_same(a, b)


def test_a_process_started_afresh_makes_the_same_steps(everything):
    """Where workers are spawned, the steps are sent to them whole."""
    steps = Steps(read(everything, fit=True), 0, 1, {})
    for a, b in zip(islice(steps, 3), islice(pickle.loads(pickle.dumps(steps)), 3), strict=True):
        assert_same(a, b)


def test_pieces_that_are_kept_change_nothing(everything, monkeypatch):
    """Many epochs, in which what is too long is cut; nothing is tokenised twice but what is cut or augmented."""
    monkeypatch.setattr("mmm.data.loaders.KEPT", 0)
    wanted = batches(read(everything, fit=True), 60)
    monkeypatch.undo()
    data = read(everything, fit=True)
    read_again: Counter = Counter()
    for name, tokenizer in data.tokenizers.items():

        def counted(raw, draw=None, name=name, tokenize=tokenizer.tokenize):
            piece = tokenize(raw, draw)
            read_again[name, str(raw), bool(draw and draw.asked)] += 1
            return piece

        monkeypatch.setattr(tokenizer, "tokenize", counted)
    steps = Steps(data, 0, 1, {})
    for a, b in zip(wanted, (steps.batch(plan) for plan in islice(steps.plans(), 60)), strict=True):
        assert_same(a, b)
    assert {count for (*_, cut), count in read_again.items() if not cut} == {1}
    assert max(count for (*_, cut), count in read_again.items() if cut) > 1


def test_records_that_share_a_key_keep_their_own_pieces(home):
    """A sound is named by its size and its beginning; two that begin with the same silence are still two."""
    for i in range(12):
        noise = np.random.default_rng(i).normal(0, 0.1, 20_000) if i < 2 else np.full(2000, i / 20)
        soundfile.write(home / f"{i}.wav", np.concatenate([np.zeros(40_000 if i < 2 else 0), noise]), 16_000)
    data = Data(files={"audio": str(home)}, validation=0.3, tokens_per_batch=4096)
    data.read({"audio": (audio := Audio(rate=16_000, max_seconds=5.0))}, 0)
    audio.fit(data.training_records("audio"))
    records = [record for _, _, examples in data._splits["train"] + data._splits["validation"] for record in examples]
    alike = [e for e in records if Path(e["audio"].path).stem in ("0", "1")]
    assert len({e["audio"].key for e in alike}) == 1
    steps = Steps(data, 0, 1, {})
    pack = steps._pack
    first, again = (pack(alike, [epoch] * 2, [(0, i) for i in range(2)]) for epoch in (0, 1))
    plain = data.packer(alike, [0, 0])
    assert torch.equal(first.content["audio"], plain.content["audio"])
    assert torch.equal(again.content["audio"], plain.content["audio"])
    halves = plain.content["audio"].split([run.rows for run in plain.runs["audio"]])
    assert not torch.equal(*halves)


def test_no_more_pieces_are_kept_than_there_is_room_for(everything, monkeypatch):
    monkeypatch.setattr("mmm.data.loaders.KEPT", 20_000)
    steps = Steps(read({"protein": everything["protein"]}, fit=True), 0, 1, {})
    wanted = batches(read({"protein": everything["protein"]}, fit=True), 30)
    for a, b in zip(wanted, (steps.batch(plan) for plan in islice(steps.plans(), 30)), strict=True):
        assert_same(a, b)
    kept = [piece.bytes + AROUND for piece in steps._pack._kept.values()]
    assert sum(kept[:-1]) < 20_000 <= sum(kept)


def test_the_cursor_of_a_batch_goes_on_after_it(everything):
    data = read(everything, fit=True)
    whole = batches(data, 8)
    data.load_state_dict(data.state_dict() | {"cursor": whole[2].cursor})
    assert data.state_dict()["cursor"] == whole[2].cursor
    for a, b in zip(whole[3:], batches(data, 5), strict=True):
        assert_same(a, b)


def test_other_records_are_noticed_on_resume(everything):
    """The order would go on, but over other records."""
    data = read(everything, fit=True)
    other = data.state_dict()
    other["fingerprint"] = {name: number + 1 for name, number in other["fingerprint"].items()}
    with pytest.raises(BadRecipe, match="not those this run began with"):
        data.load_state_dict(other)


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_the_batches_of_one(everything, processes):
    (whole, *_) = batches(read(everything, fit=True), 1)
    shares = [batches(read(everything, fit=True), 1, global_rank=r, world_size=processes)[0] for r in range(processes)]
    assert all(share.cursor == whole.cursor for share in shares)
    records = [int(s) for share in shares for tokens in share.micro for s in tokens.layout.sample_S]
    assert Counter(records) == Counter(whole.micro[0].layout.sample_S.tolist())


def test_no_forward_pass_has_more_than_its_tokens(everything):
    for batch in batches(read(everything, fit=True, max_tokens_per_rank=40), 5):
        assert len(batch.micro) > 1
        assert all(len(tokens) <= 40 for tokens in batch.micro)


def test_a_record_that_is_longer_than_a_batch_is_named(everything):
    with pytest.raises(ValueError, match=r"data 'files\.protein': a record of \d+ tokens does not fit tokens_per_batch 10"):
        Steps(read({"protein": everything["protein"]}, tokens_per_batch=10), 0, 1, {})


def test_a_record_that_is_longer_than_a_forward_pass_is_named_before_the_first_step(everything):
    with pytest.raises(BadRecipe, match=r"data 'files\.protein': a record of \d+ tokens does not fit max_tokens_per_rank 10"):
        Steps(read({"protein": everything["protein"]}, max_tokens_per_rank=10), 0, 1, {})


def test_lengths_are_those_that_are_made(everything):
    data = read(everything, fit=True)
    for source in (*data.sources("train"), *data.sources("validation")):
        for example, length in zip(source.examples, source.lengths, strict=True):
            assert sum(map(len, data.tokenize(example, 0).pieces.values())) == length


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_validation_covers_every_record_once_over_processes(everything, processes):
    data = read(everything, fit=True, validation_records=None)
    held = [Held(data, rank, processes) for rank in range(processes)]
    seen = Counter(int(s) for h in held for i in range(len(h)) for s in h[i].micro[0].layout.sample_S)
    expected = Counter(int(s) for source in data.sources("validation") for s in source.samples)
    assert seen == expected
    budget = -(-data.tokens_per_batch // processes)
    assert all(len(h[i].micro[0]) <= budget for h in held for i in range(len(h)))


def test_validation_looks_the_same_every_time_and_training_does_not(home):
    """A long record is cropped where its own draw says; in validation at its beginning."""
    data = read({"protein": fasta(home / "x.fasta", ["ACDEFGHIKLMNPQRSTVWY" * 20, *proteins(50)])})
    examples = [e for split in ("train", "validation") for s in data.sources(split) for e in s.examples]
    (long,) = (e for e in examples if len(e["protein"].raw) == 400)

    def crop(epoch: int) -> list[int]:
        return data.tokenize(long, epoch).pieces["protein"].content.tolist()

    assert crop(VALIDATION_EPOCH) == crop(VALIDATION_EPOCH)
    assert crop(0) == crop(0)
    assert len({tuple(crop(e)) for e in range(8)}) > 4
    assert data.tokenizers["protein"].detokenize(torch.tensor(crop(VALIDATION_EPOCH))).startswith("ACDEF")


# -- files that are not what they should be ------------------------------------------------------------------------------------


def _truncated_flac(path: Path) -> None:
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 4000), 4000)
    path.write_bytes(path.read_bytes()[:2000])


def _truncated_png(path: Path) -> None:
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1500])


def _broken_row(path: Path) -> None:
    stream = io.BytesIO()
    PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(stream, "jpeg")
    good = stream.getvalue()
    data = [good, good[:900]]  # the header is whole, the picture is not
    offsets = np.cumsum([0, *map(len, data)])
    np.savez(path, jpeg=np.frombuffer(b"".join(data), np.uint8), offsets=offsets)


BROKEN = {
    "latin1.txt": ("text", lambda p: p.write_bytes("größer als alles andere".encode("latin1")), None),
    "cut.jsonl": ("text", lambda p: p.write_text('{"text": "one two three"}\n{"text": "one'), 2),
    "number.jsonl": ("text", lambda p: p.write_text('{"text": "one two three"}\n{"text": 3}\n'), 2),
    "cut.png": ("image", _truncated_png, None),
    "rows.npz": ("image", _broken_row, 1),
    "cut.flac": ("audio", _truncated_flac, None),
    "short.wav": ("audio", lambda p: soundfile.write(p, np.zeros(3), 4000), None),
    "digits.fasta": ("protein", lambda p: p.write_text(">p1\nACDE\n>p2\nAC1E\n"), "p2"),
}


@pytest.mark.parametrize("file", BROKEN)
def test_a_broken_file_is_named_with_its_record(home, everything, file):
    name, make, record = BROKEN[file]
    path = home / file
    make(path)
    data = read({name: everything[name]}, fit=True)

    def every_record() -> None:
        for found in data.tokenizers[name].records(path):
            data.tokenizers[name].length(found)
            data.tokenize({name: found}, 0)

    with pytest.raises(BadRecord) as caught:
        every_record()
    assert str(path) == str(caught.value.path)
    assert caught.value.record == record
    assert str(caught.value).startswith(f"{path}" if record is None else f"{path}, record {record}: ")
    assert "\n" not in str(caught.value)


def test_what_a_tokenizer_runs_into_is_named_too(home):
    """An error that knows no file gets the file and the record from the data."""
    data = read({"protein": fasta(home / "x.fasta", proteins(30))})
    (example, *_) = data.sources("train")[0].examples
    data.tokenizers["protein"].tokenize = lambda raw, draw: (_ for _ in ()).throw(ValueError("not that one"))
    with pytest.raises(BadRecord, match=r"x\.fasta, record p\d+: not that one"):
        data.tokenize(example, 0)


def test_errors_of_workers_stay_one_line(home, everything):
    """A file that goes bad in a worker is named as it would be without one."""
    folder = home / "sounds"
    shutil.copytree(everything["audio"], folder)
    data = read({"audio": str(folder)}, fit=True, workers=2)
    data.trainer = SimpleNamespace(global_rank=0, world_size=1)
    loader = data.train_dataloader()
    for path in folder.iterdir():
        path.write_bytes(b"RIFF")
    with pytest.raises(BadRecord) as caught:
        list(islice(loader, 2))
    assert Path(str(caught.value.path)).parent == folder
    assert "Traceback" not in str(caught.value)
