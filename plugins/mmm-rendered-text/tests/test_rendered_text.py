"""Drawn text: the conformance kit, what is drawn and where it is cut, characters that the font lacks, files, pictures."""

import json
import logging
import multiprocessing
from io import BytesIO

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmm.core.draw import Draw
from mmm.core.errors import BadRecipe, BadRecord
from mmm.core.modality import Record
from mmm.core.objective import Answer
from mmm.corruptions.drop import Drop
from mmm.decoders.transformer_decoder import TransformerDecoder
from mmm.masking.span import Span
from mmm.modalities.text import Text
from mmm.objectives.masked_modeling import MaskedModeling
from mmm.targets.pixels import Pixels
from mmm.targets.token_ids import TokenIds
from mmm.testing import (
    ToyIds,
    batch,
    check_corruption,
    check_files,
    check_learns,
    check_masking,
    check_modality,
    check_objective,
    tiny_model,
)
from PIL import ImageDraw, ImageFont

from mmm_rendered_text._line import Line, composed
from mmm_rendered_text._typeface import Typeface, _font
from mmm_rendered_text.rendered_text import RenderedText

RAWS = [
    "A word is what it looks like.",
    "x",
    "café and naïve",
    "a much longer text, of which a part is left out " * 3,
    ("Two texts", "are one strip, a black patch behind each"),
]
RECORDS = [Record("memory", i, raw, raw.encode()) for i, raw in enumerate(raw for raw in RAWS if isinstance(raw, str))]
AILERON = ImageFont.load_default(16).font_bytes
MAKES = {
    "by default": lambda **a: RenderedText(max_length=40, **a),
    "rotary, another height": lambda **a: RenderedText(max_length=40, patch=12, positions="none", **a),
    "whole words": lambda **a: RenderedText(max_length=40, apart=True, unit="word", **a),
}
visible = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FFF, exclude_categories=["Cs"]), min_size=1, max_size=60)


@pytest.fixture(scope="session")
def pool():
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        yield pool


def fitted(**arguments) -> RenderedText:
    modality = RenderedText(**arguments)
    modality.fit(RECORDS)
    return modality


def pixels(modality: RenderedText, raw, draw=None) -> np.ndarray:
    """pixels_HW of the strip."""
    return np.asarray(modality.tokenizer.detokenize(modality.tokenizer.tokenize(raw, draw).content))


@pytest.mark.parametrize("kind", MAKES)
def test_the_kit(kind, pool):
    def same(raw, back):
        return np.array_equal(pixels(modality, raw), np.asarray(back))

    modality = MAKES[kind]()
    check_modality(modality, RAWS, RECORDS, same=same, pool=pool)


def test_as_the_paper_does_beside_another_modality():
    modalities = {"drawn": fitted(max_length=40), "other": ToyIds()}
    model = tiny_model(modalities, decoder=TransformerDecoder(32, 1, 4))
    tokens = batch(modalities, [*({"drawn": raw} for raw in RAWS), {"other": [*range(1, 9)]}])
    masking = Span(0.25)
    check_masking(masking, tokens)
    check_corruption(Drop(), tokens, masking.hidden(tokens, 0.5, Draw(5)))
    objective = MaskedModeling(masking, Drop(), {"drawn": Pixels(normalise=True), "other": TokenIds()})
    objective.setup(model)
    check_objective(objective, model, tokens)


def test_it_learns():
    modalities = {"drawn": fitted(max_length=40)}
    model = tiny_model(modalities, decoder=TransformerDecoder(32, 1, 4))
    objective = MaskedModeling(Span(0.25), Drop(), {"drawn": Pixels(normalise=True)})
    objective.setup(model)
    check_learns(objective, model, batch(modalities, [{"drawn": raw} for raw in RAWS]))


# -- what is drawn -------------------------------------------------------------------------------------------------------------


def test_the_strip_is_the_text_and_black_patches():
    """Against Pillow's own drawing of the words; between the two texts and at the end stands a black patch."""
    modality = fitted()
    first, second = (pixels(modality, text) for text in ("Two", "texts"))
    both = pixels(modality, ("Two", "texts"))
    assert np.array_equal(both, np.concatenate([first, second], axis=1))
    assert (first[:, -16:] == 0).all()
    word = PIL.Image.new("L", (first.shape[1] - 16, 16), 255)
    font = ImageFont.truetype(BytesIO(AILERON), 13, layout_engine=ImageFont.Layout.BASIC)
    ImageDraw.Draw(word).text((0, 13), "Two", fill=0, font=font, anchor="ls")
    assert np.array_equal(first[:, :-16], np.asarray(word))


def test_black_patches_are_specials_and_places_are_counted():
    piece = fitted().tokenizer.tokenize(("Two texts", "one strip"))
    black_N = (piece.content == -4).all(1)
    assert torch.equal(~piece.maskable, black_N)
    assert black_N.sum() == 2
    assert black_N[-1]
    assert piece.positions.tolist() == [*range(len(piece))]


def test_white_space_is_one_blank_and_accents_are_composed():
    assert composed(" a \n\n b\tc\u2028d ") == "a b c d"
    assert composed("e\u0301") == "é"
    assert np.array_equal(pixels(fitted(), "a\n b"), pixels(fitted(), "a b"))


def test_similar_texts_begin_alike():
    tokenizer = fitted().tokenizer
    one, other = (tokenizer.tokenize(text).content for text in ("the same words", "the same works"))
    alike = tokenizer.typeface.width("the same wor") // 16
    assert alike >= 4
    assert torch.equal(one[:alike], other[:alike])
    assert not torch.equal(one, other)


@given(visible.filter(str.strip), st.integers(4, 12), st.integers(0, 3))
@settings(max_examples=100, deadline=None)
def test_a_window_is_a_part_of_the_whole_strip(text, most, epoch):
    short, whole = SHORT.tokenizer, WHOLE.tokenizer
    short.max_length = most
    piece, all_of_it = short.tokenize(text, Draw(0).at(epoch)), whole.tokenize(text)
    assert len(piece) == min(most, len(all_of_it)) == short.length(Record("", 1, text, b""))
    assert piece.cut == (len(all_of_it) > most)
    body, all_R = piece.content[:-1], all_of_it.content[:-1]
    assert any(torch.equal(body, all_R[i : i + len(body)]) for i in range(len(all_R) - len(body) + 1))


SHORT, WHOLE = fitted(), fitted(max_length=10_000)


def test_a_word_without_end_is_drawn_like_any_other():
    piece = fitted(max_length=20).tokenizer.tokenize("W" * 100_000, Draw(1))
    assert (len(piece), piece.cut) == (20, True)


@pytest.mark.parametrize("apart", [False, True])
def test_a_line_draws_only_what_is_seen(apart, monkeypatch):
    line, drawn = Line(" ".join(["word"] * 1000), Typeface.of(None, 16), apart), []
    monkeypatch.setattr(Typeface, "drawn", lambda self, chunk, width: drawn.append(chunk) or np.zeros((16, width), np.uint8))
    assert line.drawn(slice(100, 110)).shape == (16, 160)
    assert len(drawn) < 8


def test_words_apart_look_the_same_wherever_they_stand():
    modality = fitted(apart=True)
    one_R = modality.tokenizer.tokenize("likeness").content[:-1]
    found_R = modality.tokenizer.tokenize("a likeness is a likeness").content
    assert sum(torch.equal(found_R[i : i + len(one_R)], one_R) for i in range(len(found_R))) == 2


def test_the_patches_of_a_word_are_a_unit():
    piece = fitted(apart=True, unit="word").tokenizer.tokenize(("I am longer", "or two"))
    assert piece.units.tolist() == [0, 1, 1, 2, 2, 2, 3, 4, 5, 5, 6]
    assert piece.units[~piece.maskable].tolist() == [3, 6]
    assert fitted(apart=True).tokenizer.tokenize("a word").units is None


def test_a_window_of_words_counts_its_units_from_0():
    tokenizer = fitted(apart=True, unit="word", max_length=8).tokenizer
    units = [tokenizer.tokenize("several words of some length, one after the other", Draw(0).at(i)).units for i in range(9)]
    assert all(unit_N[0] == 0 and len(unit_N) == 8 for unit_N in units)
    assert len({tuple(unit_N.tolist()) for unit_N in units}) > 3


@pytest.mark.parametrize(("lengths", "rooms"), [((1, 30), (1, 17)), ((30, 1), (17, 1)), ((30, 30), (9, 9)), ((4, 5), (4, 5))])
def test_of_two_texts_the_longer_is_cut_first(lengths, rooms):
    tokenizer = fitted(max_length=20).tokenizer
    width = tokenizer.typeface.width("m")
    raw = tuple("m" * (16 * n // width) for n in lengths)
    assert tuple(len(tokenizer.tokenize(text).content) - 1 for text in raw if len(text) < 20 * 16 // width) == tuple(
        n for n in lengths if n < 20
    )
    ends = (~tokenizer.tokenize(raw).maskable).nonzero()[:, 0].tolist()
    assert (ends[0], ends[1] - ends[0] - 1) == rooms


@pytest.mark.parametrize("raw", ["", " \n", None, 3, b"text", ("a", ""), ("a", "b", "c")])
def test_what_is_no_text_is_refused(raw):
    with pytest.raises(ValueError, match="what is drawn is a text"):
        fitted().tokenizer.tokenize(raw)


# -- the font ------------------------------------------------------------------------------------------------------------------


def test_what_the_font_has():
    """All of ASCII; a character it lacks is one whose glyph is its box, or empty."""
    typeface = Typeface.of(None, 16)
    assert typeface.name == "Aileron Regular"
    assert not any(map(typeface.lacks, map(chr, range(32, 127))))
    assert all(map(typeface.lacks, "éα漢\u200b\0\ud800\U0001f600"))


@pytest.mark.parametrize("height", [8, 12, 16, 32])
def test_a_line_holds_the_highest_and_the_deepest_letters(height):
    font = _font(Typeface.of(None, height))
    _, top, _, bottom = font.getbbox("".join(map(chr, range(32, 127))), anchor="ls")
    assert top >= -font.getmetrics()[0]
    assert bottom <= height - font.getmetrics()[0]


def test_lacking_characters_are_spelled_and_said_once(caplog):
    modality = RenderedText()
    with caplog.at_level(logging.WARNING, "mmm"):
        modality.fit(RECORDS)
        assert np.array_equal(pixels(modality, "olé"), pixels(modality, r"ol\u00e9"))
        assert np.array_equal(pixels(modality, "a😀"), pixels(modality, r"a\U0001f600"))
        pixels(modality, "\u200bé")
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3
    assert said[0] == (
        r"the font Aileron Regular lacks é (\u00e9), ï (\u00ef); they are spelled out so. Name a font that has them."
    )
    assert r"lacks 😀 (\U0001f600);" in said[1]
    assert r"lacks \u200b;" in said[2]


def test_or_refused(tmp_path):
    modality = fitted(lacking="refuse")
    with pytest.raises(ValueError, match="Aileron Regular lacks é"):
        modality.tokenizer.tokenize("café")
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "plain"}) + "\n" + json.dumps({"text": "naïve"}) + "\n")
    with pytest.raises(BadRecord, match=r"a\.jsonl, record 2.*ï"):
        list(modality.tokenizer.records(tmp_path / "a.jsonl"))
    with pytest.raises(BadRecord, match="record 7"):
        modality.tokenizer.cell("naïve", tmp_path / "t.csv", 7)


def test_a_font_of_ones_own_travels_with_the_checkpoint(tmp_path):
    (tmp_path / "own.ttf").write_bytes(AILERON)
    modality = RenderedText(font=str(tmp_path / "own.ttf"))
    modality.fit(RECORDS)
    assets = modality.assets()
    (tmp_path / "own.ttf").unlink()
    there = RenderedText(font=str(tmp_path / "own.ttf"))
    there.restore(assets)
    assert np.array_equal(pixels(there, "a word"), pixels(modality, "a word"))


@pytest.mark.parametrize(("data", "word"), [(None, "No such file"), (b"no font", "no TrueType or OpenType font")])
def test_a_font_that_cannot_be_read(data, word, tmp_path):
    path = tmp_path / "own.ttf"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(BadRecipe, match=f"own.ttf.*{word}"):
        RenderedText(font=str(path)).fit(RECORDS)


def test_a_font_without_the_letters_to_spell_with(monkeypatch):
    modality = RenderedText()
    monkeypatch.setattr(Typeface, "lacks", lambda self, character: character in "ab\\")
    with pytest.raises(BadRecipe, match=r"lacks \\ab.*lacking: refuse"):
        modality.fit(RECORDS)
    RenderedText(lacking="refuse").fit(RECORDS)


@pytest.mark.parametrize("wrong", [{"patch": 4}, {"max_length": 3}, {"record_words": 0}, {"unit": "word"}])
def test_arguments_that_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(BadRecipe, match=name):
        RenderedText(**wrong)


# -- files ---------------------------------------------------------------------------------------------------------------------


def test_files_are_read_as_the_text_modality_reads_them(tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join(f"paragraph {i} of a text" for i in range(40)), encoding="utf-8")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": t, "label": 1}) + "\n" for t in ("one", "two")))
    ours, theirs = RenderedText().tokenizer, Text().tokenizer
    assert ours.suffixes == theirs.suffixes
    for name in ("a.txt", "a.jsonl"):
        assert list(ours.records(tmp_path / name)) == list(theirs.records(tmp_path / name))
    assert ours.cell("a cell", tmp_path / "t.csv", 1) == theirs.cell("a cell", tmp_path / "t.csv", 1)


def test_damaged_files(tmp_path):
    for name, text in (("a.txt", "a text of some words\n" * 20), ("a.jsonl", '{"text": "a text of some words"}\n' * 20)):
        (tmp_path / name).write_text(text)
        check_files(fitted(), tmp_path / name, tmp_path)


# -- pictures ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [RAWS[0], RAWS[3], RAWS[4]], ids=["short", "cut", "two"])
def test_pictures(raw):
    modality = fitted(max_length=100)
    tokens = batch({"drawn": modality}, [{"drawn": raw}])
    hidden_N = Span(0.25).hidden(tokens, 0.5, Draw(3))
    target = Pixels(normalise=True)
    target.bind("drawn", modality.tokenizer)
    answer_N = hidden_N.nonzero()[:, 0]
    truth_NV, nothing_N = target.truth(tokens, answer_N), torch.zeros(len(answer_N))
    perfect = Answer("drawn", target, "", answer_N, truth_NV, truth_NV, nothing_N, nothing_N + 1)
    original, masked, filled = modality.pictures(tokens, "drawn", hidden_N, [perfect])
    assert original.pixels.shape == masked.pixels.shape == filled.pixels.shape
    assert original.pixels.shape[0] == 20 * -(-len(tokens) // 44)
    assert torch.allclose(filled.pixels[..., 0], original.pixels[..., 0], atol=1e-3), "red is the ink, on yellow as on white"
    marked = (filled.pixels[..., 2] - original.pixels[..., 2]).abs() > 1e-2
    assert 0 < marked.float().mean() < 0.5
    assert "reconstructed" in filled.caption
