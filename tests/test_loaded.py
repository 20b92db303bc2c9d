"""The plain view of a model: records of any kind in, one tensor a record out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import save, values, write

import mmm
from mmm.modalities._patches import _grid
from mmm.run import run
from mmm.samplers.ancestral import Ancestral

TEXTS = ["mask the token", "a [MASK] row", "of the layout is hidden"]


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A finished run of four modalities in ``out``, and its data in ``files``."""
    folder = tmp_path_factory.mktemp("loaded")
    recipe = values(write(folder / "files", records=40), 2)
    recipe["model"]["modality_vector"] = True
    run(save(folder / "tiny.yaml", recipe), run_dir=str(folder / "out"))
    return folder


@pytest.fixture(scope="module")
def model(home):
    return mmm.load(home / "out")


def test_one_tensor_a_record(model):
    hidden, logits = model.hidden(TEXTS), model.logits(TEXTS)
    for text, h, v in zip(TEXTS, hidden, logits, strict=True):
        _, piece = model.piece(text)
        assert h.shape == (len(piece), model.model.encoder.width)
        assert v.shape == (len(piece), model.modalities["text"].tokenizer.size)


def test_a_record_alone_is_as_in_any_batch(model):
    together = model.hidden([*TEXTS, "MKTAYIAK"], modality="text")
    for text, hidden in zip(TEXTS, together, strict=False):
        torch.testing.assert_close(model.hidden([text])[0], hidden, rtol=0, atol=1e-5)


def test_records_come_back_in_their_order(model):
    records = ["token " * n for n in (5, 1, 3, 2)]
    lengths = [len(model.piece(r)[1]) for r in records]
    assert [len(h) for h in model.hidden(records)] == lengths


def test_a_mask_in_the_record_is_the_only_one(model):
    seen, masked = model.hidden(["a token row", "a [MASK] row"])
    assert not torch.allclose(seen[0], masked[0])
    tokenizer = model.modalities["text"].tokenizer
    _, piece = model.piece("a [MASK] row")
    assert (piece.content == tokenizer.mask).sum() == 1
    assert not piece.maskable[piece.content == tokenizer.mask].any()


def test_a_string_is_text_unless_another_modality_is_named(model):
    assert model.piece("MKTAYIAK")[0] == "text"
    assert model.piece("MKTAYIAK", "protein")[0] == "protein"
    assert len(model.hidden(["MK<mask>AY"], modality="protein")[0]) == 7


def test_every_modality_by_the_kind_of_its_records(model, home):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    wave = torch.sin(torch.arange(2000) / 5)
    records = [Image.fromarray(pixels), pixels / 255.0, (wave, 4000), sorted((home / "files" / "sounds").iterdir())[0]]
    assert [model.piece(r)[0] for r in records] == ["image", "image", "audio", "audio"]
    hidden = model.hidden(records)
    torch.testing.assert_close(hidden[0], hidden[1])
    assert all(torch.isfinite(h).all() for h in hidden)


def test_gradients_flow(model):
    model.hidden(TEXTS)[0].sum().backward()
    assert model.model.modalities["text"].embedding.weight.grad.abs().sum() > 0
    model.zero_grad()


@pytest.mark.parametrize(
    ("records", "modality", "said"),
    [
        ("a token", None, "put the one record in a list"),
        ([b"\x00"], None, "no modality can read it"),
        ([""], "text", "no modality can read it"),
        (["a"], "texts", "Did you mean 'text'"),
        (["token " * 200], None, "longer than this model reads"),
        (["MKJ"], "protein", "leucine or isoleucine"),
        ([Path("nowhere.png")], None, "no modality can read it"),
    ],
)
def test_what_cannot_be_read_is_told(model, records, modality, said):
    with pytest.raises(ValueError, match=said):
        model.hidden(records, modality=modality)


def test_nothing_asked_nothing_answered(model):
    assert model.hidden([]) == []


def test_a_model_without_a_head_says_so(model):
    head = model.model.heads.pop("protein/TokenIds")
    try:
        with pytest.raises(ValueError, match="no head for the tokens of 'protein'"):
            model.logits(["MKTAYIAK"], modality="protein")
    finally:
        model.model.heads["protein/TokenIds"] = head


def test_a_package_is_looked_into_and_not_imported(tmp_path, monkeypatch):
    (tmp_path / "weights_in_a_package").mkdir()
    (tmp_path / "weights_in_a_package" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="holds no 'model'; it has __init__"):
        mmm.load("package:weights_in_a_package/model")
    with pytest.raises(ValueError, match="the package holds no"):
        mmm.load(f"package:weights_in_a_package/{tmp_path}")
    with pytest.raises(ValueError, match="no package 'nowhere_at_all'"):
        mmm.load("package:nowhere_at_all/model")


def test_masks_are_filled_in(model):
    text, plain = model.fill(["a [MASK] row of [MASK]", "the layout"])
    (protein,) = model.fill(["MK<mask>AY"], modality="protein")
    assert "[MASK]" not in text
    assert text.split()[0] == "a"
    assert plain == "the layout"
    assert "<mask>" not in protein
    assert (protein[:2], protein[-2:], len(protein)) == ("MK", "AY", 5)
    again = model.fill(["a [MASK] row of [MASK]"] * 5, sampler=Ancestral(4), seed=1)
    assert again == model.fill(["a [MASK] row of [MASK]"] * 5, sampler=Ancestral(4), seed=1)
    assert len(set(again)) > 1


def test_an_image_cannot_say_that_it_is_masked(model):
    with pytest.raises(ValueError, match="'image' has no way to say that a token is masked"):
        model.fill([np.zeros((8, 8), np.uint8)])


def test_it_is_on_the_cpu_whatever_device_is_the_default(home, model):
    """What is kept between calls, too."""
    image = np.arange(64, dtype=np.uint8).reshape(8, 8)
    _grid.cache_clear()
    with torch.device("meta"):
        there = mmm.load(home / "out")
        assert there.modalities["image"].tokenizer.tokenize(image).maskable.device.type == "cpu"
    assert {p.device.type for p in there.parameters()} == {"cpu"}
    assert there.modalities["protein"].tokenizer.choices.device.type == "cpu"
    assert torch.equal(there.hidden([image])[0], model.hidden([image])[0])


def test_records_of_every_kind_are_read_in_half_precision(home):
    small = mmm.load(home / "out").bfloat16()
    wave = np.random.default_rng(0).normal(0, 0.1, 2000).astype(np.float32)
    hidden = small.hidden(["a row", "MKTAYIAK", np.zeros((8, 8), np.uint8), (wave, 4000)])
    assert {h.dtype for h in hidden} == {torch.bfloat16}


@pytest.mark.parametrize(
    "record", [b"no image", np.zeros((8, 8), np.int64), np.zeros((8, 8, 4), np.uint8), np.full((8, 8), 2.0)]
)
def test_what_is_no_image_is_called_so_once(model, record):
    with pytest.raises(ValueError, match=r"no modality can read it: image: (an array|float)"):
        model.hidden([record], "image")
