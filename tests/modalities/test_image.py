"""Images: every kind of file and array, patches as MAE cuts them, augmentation by a record's draw, and what is refused."""

import contextlib
import io
import pickle
import random

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
from mmm.core.tokens import Sample, pack
from mmm.modalities.image import Image

RGB = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
PLAIN = {"mean": [0.0] * 3, "std": [1.0] * 3}


def small(size=8, patch=4, **arguments):
    return Image(size=size, patch=patch, **{"augment": False, **arguments})


def native(**arguments):
    return Image(size=None, patch=4, **{"augment": False, **PLAIN, **arguments})


def encoded(image, format, **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def pixels(image, raw):
    """(C, H, W) of what the tokenizer made of a raw value, at its own size."""
    piece = image.tokenizer.tokenize(raw)
    y, x = piece.positions.amax(0).tolist()
    return image.tokenizer.unpatchify(piece.content[image.tokenizer.specials :], (y + 1, x + 1))


# decoding


@pytest.mark.parametrize("format", ["PNG", "WEBP", "JPEG"])
def test_files_become_the_pixels_they_show(tmp_path, format):
    smooth = PIL.Image.fromarray(RGB).resize((8, 8)).resize((32, 24))
    options = {"PNG": {}, "WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}[format]
    path = tmp_path / f"a.{format.lower()}"
    path.write_bytes(encoded(smooth, format, **options))
    (record,) = native().tokenizer.records(path)
    assert record.raw == str(path)
    assert record.record is None
    tolerance = 0.02 if format == "JPEG" else 1e-6
    want = torch.from_numpy(np.array(smooth)).permute(2, 0, 1) / 255
    assert (pixels(native(), record.raw) - want).abs().max() <= tolerance
    elsewhere = tmp_path / f"copy{path.suffix}"
    elsewhere.write_bytes(path.read_bytes())
    assert next(iter(native().tokenizer.records(elsewhere))).sample == record.sample


def test_arrays_tensors_and_pil_images_agree():
    image = native()
    want = torch.from_numpy(RGB).permute(2, 0, 1) / 255
    for raw in (RGB, torch.from_numpy(RGB), want, want.double().numpy(), PIL.Image.fromarray(RGB)):
        torch.testing.assert_close(pixels(image, raw), want, rtol=0, atol=1e-6)
    grey = native(channels=1, mean=[0.0], std=[1.0])
    for raw in (RGB[..., 0], RGB[..., :1], want[0], want[:1]):
        torch.testing.assert_close(pixels(grey, raw), want[:1], rtol=0, atol=1e-6)


def test_modes_are_converted():
    image, grey = native(), native(channels=1, mean=[0.0], std=[1.0])
    full = PIL.Image.fromarray(RGB)
    want = torch.from_numpy(RGB).permute(2, 0, 1) / 255

    ramp = np.linspace(0, 65535, 64, dtype=np.uint16).reshape(8, 8)  # 16 bits
    stored = PIL.Image.open(io.BytesIO(encoded(PIL.Image.fromarray(ramp), "PNG")))
    assert stored.mode.startswith("I")
    assert (pixels(grey, stored)[0] - torch.from_numpy(ramp / 65535)).abs().max() < 0.51 / 255

    clear = full.convert("RGBA")  # transparency over white
    clear.putalpha(PIL.Image.fromarray(np.full((24, 32), 51, np.uint8)))
    torch.testing.assert_close(pixels(image, clear), 0.2 * want + 0.8, rtol=0, atol=1.01 / 255)

    palette = PIL.Image.fromarray(np.array([[0, 1], [1, 2]], np.uint8).repeat(4, 0).repeat(4, 1), mode="P")
    palette.putpalette([255, 0, 0, 0, 0, 255, 9, 9, 9])
    palette.info["transparency"] = 2
    corners = pixels(image, palette)[:, ::7, ::7]
    assert corners[:, 0, 0].tolist() == [1, 0, 0]
    assert corners[:, 0, 1].tolist() == [0, 0, 1]
    assert corners[:, 1, 1].tolist() == [1, 1, 1]

    cmyk = PIL.Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert pixels(image, cmyk)[:, 0, 0].tolist() == [1, 0, 0]
    luma = pixels(grey, full)[0]
    assert (luma - (0.299 * want[0] + 0.587 * want[1] + 0.114 * want[2])).abs().max() < 1.01 / 255
    assert pixels(image, full.convert("1")).unique().tolist() == [0, 1]


def test_exif_orientation_is_applied(tmp_path):
    upright = PIL.Image.fromarray(RGB)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a.png").write_bytes(encoded(upright.transpose(PIL.Image.Transpose.ROTATE_90), "PNG", exif=exif))
    image = native()
    (record,) = image.tokenizer.records(tmp_path / "a.png")
    torch.testing.assert_close(pixels(image, record.raw), torch.from_numpy(RGB).permute(2, 0, 1) / 255)
    assert image.tokenizer.length(record) == len(image.tokenizer.tokenize(record.raw)) == 6 * 8


@pytest.mark.parametrize(
    ("raw", "match"),
    [
        (RGB.astype(np.int32), r"dtype int32; choices"),
        (RGB.transpose(2, 0, 1), r"shape \(3, 24, 32\) and dtype uint8"),
        (RGB / 255, r"shape \(24, 32, 3\) and dtype float64"),
        (torch.zeros(2, 3, 8, 8), r"shape \(2, 3, 8, 8\)"),
        (torch.zeros(3, 0, 8), r"shape \(3, 0, 8\)"),
        (torch.full((3, 8, 8), 1.5), "lie in 0..1, these from 1.5"),
        (torch.full((3, 8, 8), float("nan")), "lie in 0..1"),
        (PIL.Image.new("F", (8, 8)), "mode F"),
        (PIL.Image.fromarray(np.full((8, 8), 70000, np.int32)), "70000"),
        (None, "dtype object"),
        (torch.zeros(3, 3, 8), "less than one patch"),
    ],
)
def test_raw_values_that_are_no_image(raw, match):
    with pytest.raises(ValueError, match=match) as error:
        native().tokenizer.tokenize(raw)
    assert str(error.value).startswith("image: ")


def test_files_that_are_no_image_are_named(tmp_path, monkeypatch):
    tokenizer = small().tokenizer
    path = tmp_path / "a.png"
    good = PIL.Image.fromarray(RGB)
    animated = encoded(good, "WEBP", save_all=True, append_images=[good.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)])
    for data, match in [
        (b"", "no image, or a broken one; formats: PNG, JPEG, WEBP"),
        (b"<html>", "no image"),
        (encoded(good, "GIF"), "no image"),
        (encoded(good, "PNG")[:20], "no image"),
        (animated, "animated, 2 frames"),
    ]:
        path.write_bytes(data)
        with pytest.raises(BadRecord, match=match) as error:
            list(tokenizer.records(path))
        assert str(path) in str(error.value)
    for format in ("PNG", "JPEG", "WEBP"):
        data = encoded(good, format)
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(BadRecord) as error:
            tokenizer.tokenize(str(path))
        assert str(path) in str(error.value)
    with pytest.raises(BadRecord, match="No such file"):
        tokenizer.tokenize(str(tmp_path / "gone.png"))
    with pytest.raises(ValueError, match="too narrow"):
        Image(augment=False).tokenizer.tokenize(np.zeros((1, 30000), np.uint8))
    monkeypatch.setattr("mmm.modalities._pixels.MAX_PIXELS", 100)
    path.write_bytes(encoded(good, "PNG"))
    with pytest.raises(BadRecord, match="32 x 24 pixels are more than 100"):
        list(tokenizer.records(path))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "WEBP"]), st.data())
def test_broken_bytes_make_an_image_or_a_bad_record(tmp_path_factory, format, data):
    broken = bytearray(encoded(PIL.Image.fromarray(RGB), format))
    for place in data.draw(st.lists(st.integers(0, len(broken) - 1), min_size=1, max_size=4)):
        broken[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("broken") / "a.png"
    path.write_bytes(broken)
    with contextlib.suppress(BadRecord):
        assert len(small().tokenizer.tokenize(str(path))) == 4


# rows of .npz files


def test_rows_of_pixels_and_of_jpeg_files(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.stack([RGB, RGB[::-1]]), labels=np.array([3, 5], np.uint8))
    image = native()
    found = list(image.tokenizer.records(tmp_path / "a.npz"))
    assert [(r.record, r.raw, r.label) for r in found] == [(i, (str(tmp_path / "a.npz"), i), (3, 5)[i]) for i in (0, 1)]
    assert found[0].sample != found[1].sample
    torch.testing.assert_close(pixels(image, found[1].raw), torch.from_numpy(RGB[::-1].copy()).permute(2, 0, 1) / 255)
    assert [image.tokenizer.length(r) for r in found] == [48, 48]

    files = [encoded(PIL.Image.fromarray(RGB), "JPEG"), encoded(PIL.Image.fromarray(RGB[:8]), "JPEG")]
    offsets = np.cumsum([0, *map(len, files)])
    np.savez(tmp_path / "b.npz", jpeg=np.frombuffer(b"".join(files), np.uint8), offsets=offsets)
    (tmp_path / "a.jpg").write_bytes(files[1])
    found = list(image.tokenizer.records(tmp_path / "b.npz"))
    assert [image.tokenizer.length(r) for r in found] == [48, 16] == [len(image.tokenizer.tokenize(r.raw)) for r in found]
    alone = next(iter(image.tokenizer.records(tmp_path / "a.jpg")))
    assert alone.key == found[1].key
    assert found[1].label is None
    assert torch.equal(pixels(image, alone.raw), pixels(image, found[1].raw))
    with pytest.raises(BadRecord, match="record 2: the file has 2 rows"):
        image.tokenizer.tokenize((str(tmp_path / "b.npz"), 2))

    np.savez(tmp_path / "a.npz", images=RGB[None, ..., :1])  # written anew under the same name
    assert image.tokenizer.length(Record("", 0, (str(tmp_path / "a.npz"), 0), b"")) == 48
    assert len(list(image.tokenizer.records(tmp_path / "a.npz"))) == 1


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"pictures": RGB}, "neither images nor jpeg and offsets, but pictures"),
        ({"images": RGB[0]}, r"uint8 \(32, 3\), not uint8"),
        ({"images": RGB[None] / 255}, "images are float64"),
        ({"images": RGB[:0][None]}, r"uint8 \(1, 0, 32, 3\)"),
        ({"images": RGB[None], "labels": np.zeros(2)}, r"labels have shape \(2,\)"),
        ({"images": np.array([None, "a"], dtype=object)}, "no .npz file of plain arrays"),
        ({"jpeg": np.zeros(9, np.uint8), "offsets": np.array([0, 5, 4])}, "offsets must rise"),
        ({"jpeg": np.zeros(9, np.uint8), "offsets": np.array([0, 10])}, "at most the 9 bytes"),
        ({"jpeg": np.zeros(9, np.uint8), "offsets": np.array([0, 9])}, "record 0: no image"),
    ],
)
def test_malformed_archives_are_named(tmp_path, arrays, match):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(BadRecord, match=match) as error:
        list(small().tokenizer.records(tmp_path / "a.npz"))
    assert str(tmp_path / "a.npz") in str(error.value)


def test_archives_that_are_broken_or_too_large(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    path.write_bytes(b"no zip")
    with pytest.raises(BadRecord, match=r"no \.npz file"):
        list(small().tokenizer.records(path))
    monkeypatch.setattr("mmm.modalities._pixels.MAX_ARCHIVE", 1000)
    np.savez_compressed(path, images=np.zeros((100, 8, 8), np.uint8))
    with pytest.raises(BadRecord, match="more than 1000"):
        list(small().tokenizer.records(path))


# patches


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 40), st.integers(4, 40), st.integers(1, 4), st.sampled_from([1, 3]))
def test_images_of_any_size_are_cut_to_whole_patches(height, width, patch, channels):
    image = Image(size=None, patch=patch, channels=channels, augment=False, mean=[0.4] * channels, std=[0.3] * channels)
    raw = torch.arange(channels * height * width).reshape(channels, height, width) % 256 / 255
    piece = image.tokenizer.tokenize(raw)
    h, w = height // patch, width // patch
    assert len(piece) == h * w == image.tokenizer.length(Record("", None, raw, b""))
    assert piece.positions.tolist() == [[y, x] for y in range(h) for x in range(w)]
    top, left = (height - h * patch) // 2, (width - w * patch) // 2
    want = raw[:, top : top + h * patch, left : left + w * patch]
    torch.testing.assert_close(image.tokenizer.unpatchify(piece.content, (h, w)), want, rtol=0, atol=1e-5)


def test_patches_are_those_of_mae():
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    tiny = {"hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 4}
    tiny |= {f"decoder_{k}": v for k, v in tiny.items()}
    oracle = ViTMAEForPreTraining(ViTMAEConfig(image_size=24, patch_size=4, **tiny))
    raw = torch.rand(3, 24, 24).mul(255).round() / 255
    content = small(24, **PLAIN).tokenizer.tokenize(raw).content
    torch.testing.assert_close(content, oracle.patchify(raw[None])[0])


def test_resizing_and_normalising_are_those_of_timm():
    from timm.data import create_transform

    transform = create_transform(16, interpolation="bicubic", crop_pct=1.0)
    want = transform(PIL.Image.fromarray(RGB))
    content = small(16).tokenizer.tokenize(RGB).content
    mean, std = (torch.tensor(v)[:, None, None] for v in (small().tokenizer.mean, small().tokenizer.std))
    torch.testing.assert_close(small(16).tokenizer.detokenize(content), want * std + mean, rtol=0, atol=1e-5)


def test_cls_and_registers_are_tokens():
    image = small(cls=True, registers=2)
    piece = image.tokenizer.tokenize(RGB)
    assert len(piece) == 7 == image.tokenizer.length(Record("", None, RGB, b""))
    assert piece.maskable.tolist() == [False] * 3 + [True] * 4
    assert piece.positions[:3].tolist() == [[-1, -1]] * 3
    assert not piece.content[:3].any()
    assert image.tokenizer.detokenize(piece.content).shape == (3, 8, 8)
    with pytest.raises(ValueError, match="3 patches make no square"):
        image.tokenizer.detokenize(piece.content[:6])
    assert image.tokenizer.empty().shape == (0, 48)


# augmentation


def test_augmentation_follows_the_records_own_draw_alone():
    tokenizer = Image(size=8, patch=4).tokenizer
    random.seed(5)
    torch.manual_seed(5)
    before, before_torch = random.getstate(), torch.get_rng_state()
    found = [tokenizer.tokenize(RGB, Draw(0).at(r)).content for r in range(8)]
    assert random.getstate() == before
    assert torch.equal(torch.get_rng_state(), before_torch)
    for seed in range(8):
        random.seed(seed)
        torch.manual_seed(seed)
        again = [tokenizer.tokenize(RGB, Draw(0).at(r)).content for r in reversed(range(8))]
        assert all(torch.equal(a, b) for a, b in zip(found, reversed(again), strict=True))
    assert not any(torch.equal(found[0], f) for f in found[1:])
    steady = tokenizer.tokenize(RGB).content
    assert torch.equal(steady, tokenizer.tokenize(RGB).content)
    assert not torch.equal(steady, found[0])
    off = Image(size=8, patch=4, augment=False).tokenizer
    assert torch.equal(off.tokenize(RGB, Draw(0)).content, steady)


def test_random_state_is_given_back_when_an_image_fails(monkeypatch):
    tokenizer = Image(size=8, patch=4).tokenizer
    tokenizer.__dict__["_augmented"] = lambda image: random.random() / 0
    before = random.getstate()
    with pytest.raises(ZeroDivisionError):
        tokenizer.tokenize(RGB, Draw(0))
    assert random.getstate() == before


def test_flips_and_scale():
    square = RGB[:, :24]
    flips = Image(size=None, patch=4, flip=0.5, **PLAIN)
    plain, mirrored = pixels(flips, square), pixels(flips, square[:, ::-1].copy())
    seen = {0: 0, 1: 0}
    for r in range(64):
        out = flips.tokenizer.unpatchify(flips.tokenizer.tokenize(square, Draw(0).at(r)).content, (6, 6))
        assert torch.equal(out, plain) or torch.equal(out, mirrored)
        seen[int(torch.equal(out, mirrored))] += 1
    assert min(seen.values()) > 16
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))
    narrow = Image(size=8, patch=4, channels=1, scale=(0.1, 0.1), flip=0.0, mean=[0.0], std=[1.0]).tokenizer
    for r in range(16):
        out = narrow.detokenize(narrow.tokenize(ramp, Draw(0).at(r)).content)
        assert 0 < (out[0, 0, -1] - out[0, 0, 0]) < 0.5


def test_pickles_work_alike():
    tokenizer = Image(size=8, patch=4).tokenizer
    want = tokenizer.tokenize(RGB, Draw(0)).content
    assert torch.equal(pickle.loads(pickle.dumps(tokenizer)).tokenize(RGB, Draw(0)).content, want)


# statistics and recipes


def test_grey_images_are_normalised_by_the_training_data():
    image = small(channels=1)
    arrays = [np.full((8, 8), v, np.uint8) for v in (0, 51, 102, 255)]
    with pytest.raises(ValueError, match="no mean and std yet"):
        image.tokenizer.tokenize(arrays[0])
    image.fit([Record("", i, a, b"") for i, a in enumerate(arrays)])
    assert image.tokenizer.mean == pytest.approx([0.4])
    assert image.tokenizer.std == pytest.approx([np.std([0, 0.2, 0.4, 1])])
    other = small(channels=1)
    other.restore(image.assets())
    assert torch.equal(other.tokenizer.tokenize(arrays[1]).content, image.tokenizer.tokenize(arrays[1]).content)
    torch.testing.assert_close(
        other.tokenizer.detokenize(other.tokenizer.tokenize(arrays[1]).content), torch.full((1, 8, 8), 0.2)
    )
    assert small().assets() == {}
    assert small(channels=1, mean=[0.5], std=[0.5]).assets() == {}
    for records, match in (([], "no record"), ([Record("", 0, arrays[0], b"")], "all pixels")):
        with pytest.raises(ValueError, match=match):
            small(channels=1).fit(records)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"size": 30}, "size=30, patch=4"),
        ({"size": 0}, "size=0"),
        ({"patch": 0}, "patch=0"),
        ({"registers": -1}, "registers=-1"),
        ({"scale": (0.5, 0.2)}, "scale"),
        ({"flip": 2.0}, "flip"),
        ({"mean": [0.5] * 3}, "give both"),
        ({"mean": [0.5], "std": [0.5]}, r"3 number\(s\)"),
        ({"mean": [0.5] * 3, "std": [0.5, 0.0, 0.5]}, "above 0"),
        ({"size": None, "positions": "learned"}, "need a size"),
    ],
)
def test_recipes_that_cannot_be(arguments, match):
    with pytest.raises(BadRecipe, match=match):
        small(**arguments)


# embedding


def packed(image, raws):
    samples = [Sample({"image": image.tokenizer.tokenize(r)}, sample=i) for i, r in enumerate(raws)]
    return pack(samples, {"image": image.tokenizer})


@pytest.mark.parametrize("positions", ["none", "learned", "sinusoidal"])
@pytest.mark.parametrize(("cls", "registers", "norm"), [(False, 0, False), (True, 0, True), (True, 3, False), (False, 2, True)])
def test_embedding_packed_is_embedding_alone(positions, cls, registers, norm):
    image = small(16, cls=cls, registers=registers, positions=positions, norm=norm)
    image.build(24)
    tokens = packed(image, [RGB, RGB[::-1].copy(), RGB[:, ::-1].copy()])
    part = tokens.part("image")
    hidden_N = (Draw(1).per_token(tokens.layout) < 0.4) & tokens.layout.maskable_T
    x_ND = image.embed(part.content_R, part.layout_N, hidden_N)
    for s in range(3):
        alone = tokens.segment(s).part("image")
        own = tokens.layout.segment_T == s
        torch.testing.assert_close(image.embed(alone.content_R, alone.layout_N, hidden_N[own]), x_ND[own], rtol=0, atol=1e-6)
    (x_ND * torch.randn_like(x_ND)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in image.parameters())


def test_images_of_different_sizes_share_a_batch():
    image = native(cls=True, registers=1)
    image.build(8)
    raws = [RGB, RGB[:8, :12], RGB[:4]]
    tokens = packed(image, raws)
    part = tokens.part("image")
    x_ND = image.embed(part.content_R, part.layout_N, torch.zeros(len(tokens), dtype=torch.bool))
    specials = x_ND[~part.layout_N.maskable_T].view(3, 2, 8)
    assert torch.equal(specials, image.specials.expand(3, 2, 8))


def test_embedding_is_projection_mask_and_position():
    from mmm.nn.positions import sinusoidal

    image = small(cls=True)
    image.build(8)
    part = packed(image, [RGB]).part("image")
    hidden_N = torch.tensor([False, False, True, False, False])
    x_ND = image.embed(part.content_R, part.layout_N, hidden_N)
    position = torch.tensor([[0.0, y, x] for y in (0, 1) for x in (0, 1)])
    want = image.project(part.content_R[1:])
    want[1] = image.mask
    torch.testing.assert_close(x_ND[1:], want + sinusoidal(position, 8, 2))
    assert torch.equal(x_ND[0], image.specials[0])


# pictures


class Pixels(torch.nn.Module):
    """As much of the pixel target as a picture asks for."""

    def __init__(self, normalise):
        super().__init__()
        self.normalise = normalise


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_show_hidden_patches_grey_and_answers_in_place(normalise, channels):
    image = small(16, cls=True, channels=channels, mean=[0.4] * channels, std=[0.2] * channels)
    tokens = packed(image, [RGB])
    content = tokens.content["image"]
    hidden_N = torch.zeros(17, dtype=torch.bool)
    hidden_N[[1, 6, 7]] = True
    answer_N = torch.tensor([1, 6, 8])  # one hidden patch is not asked, one seen patch is
    truth = content[answer_N]
    output = truth.clone()
    if normalise:
        output = (truth - truth.mean(1, keepdim=True)) / (truth.var(1, keepdim=True) + 1e-6).sqrt()
    output[2] += 9  # must not be shown
    loss = torch.zeros(3)
    other = Answer("image", torch.nn.Identity(), "", answer_N, torch.zeros(3, 9), truth, loss, loss)
    answer = Answer("image", Pixels(normalise), "", answer_N, output, truth, loss, loss)
    original, masked, filled = image.pictures(tokens, "image", hidden_N, [other, answer])
    assert original.pixels.shape == ((16, 16, 3) if channels == 3 else (16, 16))
    assert masked.caption == "masked (19% of the patches)"
    assert filled.caption == "reconstructed" + " (brightness and contrast of each patch taken from the original)" * normalise
    want = original.pixels.clone()
    want[4:8, 8:12] = 0.5
    torch.testing.assert_close(filled.pixels, want, rtol=0, atol=1e-5)
    want[:4, :4] = want[4:8, 4:8] = 0.5
    assert torch.equal(masked.pixels, want)
