"""Cards: the schema holds for every card that is shipped, and faults are named."""

from __future__ import annotations

import argparse
import hashlib
import io
import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmm import yaml
from mmm.core.errors import BadRecipe
from mmm.data import command
from mmm.data.cards import Card, find_cards, load_card
from mmm.data.schema import share

CARD = """\
name: toy
title: A toy
modality: text
source: {url: "https://example.org", citation: Nobody}
licence: CC0-1.0
size: {records: 2, bytes: about 10}
splits: {train: all of it, validation: 5%}
files: {train: "*.txt"}
checksum: null
checksum_note: it is a toy
preprocessing: none
intended_use: tests
known_limits: small
prepare: {manual: Write a.txt.}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data root and a folder of cards with one card, ``toy``."""
    (tmp_path / "cards").mkdir()
    monkeypatch.setenv("MMM_CARDS", str(tmp_path / "cards"))
    monkeypatch.setenv("MMM_DATA", str(tmp_path / "data"))
    (tmp_path / "cards" / "toy.yaml").write_text(CARD)
    return tmp_path


SHIPPED = sorted(name for name, path in find_cards().items() if path.parent == Path(__file__).parents[2] / "data_cards")
"""Those of plugins that are installed here, too, are not ours to test."""


def changed(home: Path, old: str, new: str) -> Card:
    assert old in CARD
    (home / "cards" / "toy.yaml").write_text(CARD.replace(old, new))
    return load_card("toy")


def run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    return command.main(parser.parse_args(words))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_card_follows_the_schema(name: str) -> None:
    card = load_card(name)
    assert card.name == name
    assert card.modality in ("text", "image", "audio", "protein")
    assert card.has_validation or card.validation_share
    assert (card.preparer is None) != (card.manual is None)
    assert all(len(text) < 2000 for text in (card.title, card.licence, card.known_limits))


def test_the_embedded_cards_are_there() -> None:
    offline = {c.modality for c in map(load_card, SHIPPED) if c.preparer}
    assert offline == {"text", "image", "audio", "protein"}


def test_fields(home: Path) -> None:
    card = load_card("toy")
    assert (card.modality, card.validation_share, card.has_validation) == ("text", 0.05, False)
    assert card.root() == home / "data" / "toy"
    assert changed(home, "modality: text", "modalities: [image, text]").modality == "image+text"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("licence:", "license:", "Did you mean 'licence'?"),
        ("known_limits: small\n", "", "lacks the key 'known_limits'"),
        ("name: toy", "name: tray", "'tray'"),
        ("modality: text", "modality: [text]", "modality: ['text']"),
        ("modality: text", "modality: text\nmodalities: [text, image]", "either modality"),
        ("modality: text", "modalities: [text]", "two or more"),
        ("records: 2", "recrods: 2", "Did you mean 'records'?"),
        ("records: 2", "records: true", "size.records"),
        ("validation: 5%", "validation: 0%", "a share of train such as 5%"),
        ("validation: 5%", "validation: the rest", "files.validation"),
        ("validation: 5%", "test: 5%", "files.test"),
        ("validation: 5%", "validate: 5%", "Did you mean 'validation'?"),
        ('"*.txt"', '"../*.txt"', "inside the card's folder"),
        ('"*.txt"', '"/etc/*"', "inside the card's folder"),
        ('"*.txt"', "[]", "a list of globs"),
        ("checksum_note: it is a toy\n", "", "checksum_note"),
        ("checksum: null", "checksum: {a.txt: 12}", "64 digits"),
        ("checksum: null", "checksum: {a.txt: x, python 3.11.7: {}}", "not both"),
        ("{manual: Write a.txt.}", "{preparer: minst5k}", "Did you mean 'mnist5k'?"),
        ("{manual: Write a.txt.}", "Write a.txt.", "`key: value` lines"),
        ("title: A toy", "title: A toy\ntitle: Another", "line 3: the key 'title'"),
    ],
)
def test_faults_name_the_file_and_the_key(home: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(BadRecipe) as caught:
        changed(home, old, new)
    assert said in str(caught.value)
    assert "toy.yaml" in str(caught.value)


def test_unknown_card_and_split(home: Path) -> None:
    with pytest.raises(BadRecipe, match="Did you mean 'mnist5k'"):
        load_card("mnist-5k")
    with pytest.raises(BadRecipe, match="Did you mean 'train'"):
        load_card("toy").files("trian")


def test_two_cards_of_one_name(home: Path) -> None:
    (home / "cards" / "digits.yaml").write_text(CARD)
    with pytest.raises(BadRecipe, match="two cards are called 'digits'"):
        find_cards()


def test_no_such_folder_of_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMM_CARDS", "/no/such/folder")
    with pytest.raises(BadRecipe, match="/no/such/folder"):
        find_cards()


def test_missing_data_say_what_to_do(home: Path) -> None:
    card = load_card("toy")
    assert not card.prepared()
    assert card.verify()
    with pytest.raises(BadRecipe, match="mmm data prepare toy"):
        card.files("train")
    with pytest.raises(BadRecipe, match=r"Write a\.txt\."):
        card.prepare()
    with pytest.raises(BadRecipe, match="`mmm data prepare digits` makes it"):
        load_card("digits").files("train")


def test_files_are_sorted_and_a_share_has_those_of_train(home: Path) -> None:
    card = load_card("toy")
    card.root().mkdir(parents=True)
    for name in ("b.txt", "a.txt", "c.jpg"):
        (card.root() / name).write_text("text")
    assert [p.name for p in card.files("train")] == ["a.txt", "b.txt"]
    assert card.files("validation") == card.files("train")


def test_verify_finds_what_changed(home: Path) -> None:
    digest = hashlib.sha256(b"text").hexdigest()
    card = changed(home, "checksum: null", f"checksum: {{a.txt: {digest}}}\narchives: {{a.zip: {digest}, gone.zip: {digest}}}")
    card.root().mkdir(parents=True)
    for name in ("a.txt", "a.zip"):
        (card.root() / name).write_text("text")
    assert card.verify() == []
    (card.root() / "a.zip").write_text("other")
    assert [p.split(":")[0] for p in card.verify()] == ["a.zip"]
    (card.root() / "a.txt").rename(card.root() / "b.txt")
    assert "a.txt: missing" in card.verify()


def test_checksums_of_another_python_are_not_used(home: Path) -> None:
    card = changed(home, "checksum: null", f"checksum: {{python 2.7.18: {{a.txt: {'a' * 64}}}}}")
    assert not card.checksum


@pytest.mark.parametrize(("text", "value"), [("5%", 0.05), ("0.1 %", 0.001), ("100%", None), ("0%", None), ("five%", None)])
def test_share(text: str, value: float | None) -> None:
    assert share(text) == (value if value is None else pytest.approx(value))


def test_command(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(find_cards()) + 1
    assert any(line.startswith("toy\ttext\t2\tby hand\t") for line in lines)
    assert run("show", "toy", "digits") == 0
    out = capsys.readouterr().out
    assert "toy: A toy" in out
    assert "CC0-1.0" in out
    assert "mmm data prepare digits" in out
    assert str(home / "data" / "toy") in out
    assert run("prepare", "toy") == 1
    assert "Write a.txt." in capsys.readouterr().err
    assert run("verify", "toy") == 1
    assert "not prepared" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("show", "tyo")
    assert "Did you mean 'toy'?" in capsys.readouterr().err


@pytest.mark.parametrize("terminal", [True, False])
def test_a_title_cannot_command_a_terminal(home: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    changed(home, "title: A toy", 'title: "A [/x] \\e]0;toy\\a"')
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setenv("TERM", "dumb")  # colours would be control characters, too
    assert run("list") == 0
    assert run("show", "toy") == 0
    assert out.getvalue().count("[/x]") == 2
    assert "\\x1b]0;toy\\x07" in out.getvalue()
    assert not {"\x1b", "\x07"} & set(out.getvalue())


def test_the_command_needs_no_torch() -> None:
    code = "import sys, mmm.data.command as c; c.load_card('digits'); assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# -- the YAML that cards and recipes are written in


def test_yaml_reads_the_core_schema() -> None:
    text = "a: 1e-3\nb: no\nc: 010\nd: 2024-01-01\ne: [1, .5, -2., 0x1F, 0o17, .inf, ~, null, true, '1', 1_000, 1:30]\nf:\n"
    assert yaml.loads(text, "here") == {
        "a": 0.001, "b": "no", "c": 10, "d": "2024-01-01", "f": None,
        "e": [1, 0.5, -2.0, 31, 15, math.inf, None, None, True, "1", "1_000", "1:30"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: {x: 1,\n x: 2}", "line 3: the key 'x' stands here and on line 2"),
        ("1: a\n0x1: b", "the key 1 stands"),
        ("a: &x 1\nb: *x", "line 1: anchors"),
        ("b: *x", "line 1: anchors"),
        ("a: !!python/object/apply:os.system [ls]", "line 1: the tag"),
        ("? [1]\n: 2", "a key must be"),
        ("- 1", "found a list"),
        ("", "found nothing"),
        ("a: [", "line 1"),
        ("a: 1\n---\nb: 2", "another document"),
        ("[" * 100_000, "nested too deeply"),
        ("a: " + "9" * 5000, "not a number"),
        ("a: \0", "special characters"),
        ("a: " + "x" * yaml.LARGEST, "more than"),
    ],
)
def test_yaml_faults_name_the_place(text: str, said: str) -> None:
    with pytest.raises(BadRecipe) as caught:
        yaml.loads(text, "here.yaml")
    assert said in str(caught.value)
    assert str(caught.value).startswith("here.yaml")


def test_yaml_files(tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match=r"gone\.yaml: cannot be read"):
        yaml.load(tmp_path / "gone.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9")
    with pytest.raises(BadRecipe, match="not UTF-8"):
        yaml.load(tmp_path / "latin.yaml")
    (tmp_path / "large.yaml").write_bytes(b"a: " + b"x" * yaml.LARGEST)
    with pytest.raises(BadRecipe, match="more than"):
        yaml.load(tmp_path / "large.yaml")


KEYS = st.text("abcno1.e-<=~", max_size=4)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["C"]))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, PLAIN, min_size=1, max_size=4))
def test_yaml_dump_and_loads_agree(value: dict[str, object]) -> None:
    again = yaml.loads(yaml.dump(value), "dumped")
    assert again == value
    assert list(again) == list(value)


LOOKALIKES = ["1e-3", "no", "010", "0o17", "1:30", "", "~", "2024-01-01", "=", "<<", "true", "a\nb", "a: b", "# a"]


@pytest.mark.parametrize("text", LOOKALIKES)
def test_yaml_dump_keeps_text_text(text: str) -> None:
    assert yaml.loads(yaml.dump({"a": text}), "dumped") == {"a": text}


def test_a_faulty_card_of_a_plugin_is_left_out_of_the_list(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder, info = home / "site" / "mmm_two" / "data_cards", home / "site" / "mmm_two-1.0.dist-info"
    folder.mkdir(parents=True)
    info.mkdir()
    (folder.parent / "__init__.py").write_text("")
    (folder / "fine.yaml").write_text(CARD.replace("name: toy", "name: fine"))
    (folder / "faulty.yaml").write_text(CARD.replace("name: toy", "name: faulty").replace("licence:", "license:"))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mmm-two\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mmm.plugins]\ntwo = mmm_two\n")
    monkeypatch.syspath_prepend(str(home / "site"))
    assert run("list") == 0
    names = [line.partition("\t")[0] for line in capsys.readouterr().out.splitlines()]
    assert {"toy", "fine", "digits"} < set(names)
    assert "faulty" not in names
    assert "faulty.yaml: a card has no key 'license'" in caplog.text
    with pytest.raises(BadRecipe, match="no key 'license'"):
        load_card("faulty")
