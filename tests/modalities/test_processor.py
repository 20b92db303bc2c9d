"""Preprocessing that an imported model brings along: what transformers' and timm's own processors make of every input."""

import json
import pickle

import numpy as np
import PIL.Image
import pytest
import torch
from transformers import AutoImageProcessor

from mmm.core.draw import Draw
from mmm.core.errors import BadRecipe, BadRecord
from mmm.modalities._processor import OfTimm, OfTransformers
from mmm.modalities.image import Image

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (21, 34, 3), dtype=np.uint8)
PHOTO = PIL.Image.fromarray(COLOUR)

PLAIN = {"image_processor_type": "ViTImageProcessor", "size": {"height": 8, "width": 8}, "resample": 2}
SWITCHES = [
    {},
    {"resample": 3},
    {"resample": 0},
    {"do_normalize": False},
    {"do_rescale": False},
    {"do_rescale": False, "do_normalize": False},
    {"rescale_factor": 1 / 127.5},
    {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]},
    {"size": {"shortest_edge": 11}, "do_center_crop": True, "crop_size": {"height": 8, "width": 8}, "resample": 3},
    {"do_resize": False, "do_center_crop": True, "crop_size": {"height": 8, "width": 8}},
    {"size": {"shortest_edge": 6}, "do_center_crop": True, "crop_size": {"height": 8, "width": 8}},
    {"do_convert_rgb": True},
    {"image_processor_type": "BeitImageProcessor", "do_center_crop": True, "crop_size": {"height": 8, "width": 8}},
]


def image(values=None, channels=3, file="preprocessor_config.json", size=8, **arguments):
    """As an import makes it: with a processor's file, or none."""
    preprocess = "given" if values is None else "processor"
    made = Image(size=size, patch=4, channels=channels, **{"augment": False, "preprocess": preprocess} | arguments)
    made.restore({} if values is None else {file: json.dumps(values).encode()})
    return made


def seen(made, raw, draw=None):
    """(C, H, W) as the model gets it."""
    tokenizer = made.tokenizer
    patches = tokenizer.tokenize(raw, draw).content
    side = tokenizer.side // 4
    return (
        patches.view(side, side, 4, 4, tokenizer.channels)
        .permute(4, 0, 2, 1, 3)
        .reshape(tokenizer.channels, side * 4, side * 4)
    )


def library(folder, values):
    (folder / "preprocessor_config.json").write_text(json.dumps(values))
    processor = AutoImageProcessor.from_pretrained(folder)
    return lambda picture, **switch: processor(picture, return_tensors="pt", **switch).pixel_values[0].float()


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_every_input_is_what_the_library_makes_of_it(tmp_path, switch):
    values = PLAIN | switch
    made, theirs = image(values), library(tmp_path, values)
    PHOTO.save(tmp_path / "a.png")
    want = theirs(PHOTO)
    for raw in (PHOTO, COLOUR, torch.from_numpy(COLOUR), str(tmp_path / "a.png"), tmp_path / "a.png"):
        torch.testing.assert_close(seen(made, raw), want, rtol=0, atol=1e-6)
    floats = RNG.random((3, 21, 34), dtype=np.float32)
    factor = np.float32(255 * values.get("rescale_factor", 1 / 255) if values.get("do_rescale", True) else 1)
    want = theirs(floats * factor, do_rescale=False)
    for raw in (floats, torch.from_numpy(floats), floats.astype(np.float64)):
        torch.testing.assert_close(seen(made, raw), want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("convert", [True, False])
def test_modes_of_pictures(tmp_path, convert):
    """What the library turns into colours itself is left to it; what it would fail on is turned by us."""
    values = PLAIN | {"do_convert_rgb": convert}
    made, theirs = image(values), library(tmp_path, values)
    alpha = PIL.Image.fromarray(np.dstack([COLOUR, RNG.integers(0, 256, (21, 34), dtype=np.uint8)]))
    for picture in (PHOTO.convert("L"), alpha, PHOTO.convert("P"), PHOTO.convert("CMYK"), PHOTO.convert("LA")):
        white = PIL.Image.new("RGBA", picture.size, "white")
        want = theirs(picture) if convert else theirs(PIL.Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB"))
        torch.testing.assert_close(seen(made, picture), want, rtol=0, atol=1e-6)
    grey = RNG.random((21, 34), dtype=np.float32)
    want = theirs(np.repeat(grey[None], 3, 0), do_rescale=False)
    for raw in (grey, grey[None]):
        torch.testing.assert_close(seen(made, raw), want, rtol=0, atol=1e-6)


def test_grey_models(tmp_path):
    values = PLAIN | {"image_mean": [0.3], "image_std": [0.2]}
    made, theirs = image(values, channels=1), library(tmp_path, values)
    grey = PHOTO.convert("L")
    for raw in (grey, np.array(grey), PHOTO):
        torch.testing.assert_close(seen(made, raw), theirs(grey), rtol=0, atol=1e-6)
    torch.testing.assert_close(seen(made, COLOUR), theirs(grey), rtol=0, atol=0.03)
    assert made.tokenizer.mean == [pytest.approx(0.3)]


def test_a_file_is_put_upright_and_a_picture_is_left_as_it_is(tmp_path):
    made, exif = image(PLAIN), PIL.Image.Exif()
    exif[0x0112] = 6
    PHOTO.save(tmp_path / "a.jpg", exif=exif, quality=100, subsampling=0)
    turned = PIL.Image.open(tmp_path / "a.jpg")
    theirs = library(tmp_path, PLAIN)
    torch.testing.assert_close(seen(made, turned), theirs(turned), rtol=0, atol=1e-6)
    torch.testing.assert_close(seen(made, str(tmp_path / "a.jpg")), theirs(PHOTO.rotate(-90, expand=True)), rtol=0, atol=0.1)


@pytest.mark.parametrize("switch", [{}, {"do_normalize": False}, {"do_rescale": False}, {"rescale_factor": 1 / 127.5}], ids=str)
def test_the_way_back(switch):
    """Mean and std are those of pixels in 0..1, whatever scale the processor works on."""
    made = image(PLAIN | {"do_resize": False, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.25, 2.0]} | switch)
    picture = PHOTO.crop((0, 0, 8, 8))
    back = made.tokenizer.detokenize(made.tokenizer.tokenize(picture).content)
    torch.testing.assert_close(back, torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255, rtol=0, atol=1e-4)


def test_training_crops_and_flips_are_ours():
    """With the processor's mean and std; asked without a draw, it is the processor again."""
    values = PLAIN | {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    made, still = image(values, augment=True), image(values)
    own = Image(size=8, patch=4, mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6])
    torch.testing.assert_close(seen(made, PHOTO, Draw(0)), seen(own, PHOTO, Draw(0)), rtol=0, atol=1e-5)
    assert not torch.equal(seen(made, PHOTO, Draw(0)), seen(made, PHOTO, Draw(1)))
    assert torch.equal(seen(made, PHOTO), seen(still, PHOTO))
    assert torch.equal(seen(still, PHOTO, Draw(0)), seen(still, PHOTO))


def test_what_is_taken_as_it_is():
    """No resizing, no normalisation, not even 8 bits."""
    made = image()
    floats = torch.randn(3, 8, 8, dtype=torch.float64)
    assert torch.equal(seen(made, floats), floats.float())
    assert torch.equal(seen(made, floats[:1].numpy()), floats[:1].float().expand(3, 8, 8))
    small = PHOTO.crop((0, 0, 8, 8))
    want = torch.from_numpy(np.array(small)).permute(2, 0, 1) / 255
    assert torch.equal(seen(made, small), want)
    assert torch.equal(seen(made, np.array(small)), want)
    grey = torch.rand(8, 8)
    assert torch.equal(seen(image(channels=1), grey), grey[None])
    with pytest.raises(ValueError, match=r"3 x 21 x 34 .* is given, and the model reads 3 x 8 x 8"):
        made.tokenizer.tokenize(PHOTO)
    with pytest.raises(ValueError, match="float pixels"):
        made.tokenizer.tokenize(floats * np.nan)


def test_what_is_over_whole_patches_is_left_out():
    floats = torch.randn(3, 11, 11)
    assert torch.equal(seen(image(size=11), floats), floats[:, :8, :8])


def test_timm_s_own_transform(tmp_path):
    from timm.data import create_transform

    for change in ({}, {"crop_pct": 0.5}, {"crop_mode": "squash"}, {"crop_mode": "border"}, {"interpolation": "bilinear"}):
        values = {"input_size": [3, 8, 8], "interpolation": "bicubic", "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
        values |= {"crop_pct": 0.9, "crop_mode": "center"} | change
        made, theirs = image(values, file="data_config.json"), create_transform(**values, is_training=False)
        for raw in (PHOTO, COLOUR):
            torch.testing.assert_close(seen(made, raw), theirs(PHOTO), rtol=0, atol=1e-6)
        floats = torch.rand(3, 21, 34)
        if values["crop_mode"] == "border":  # timm pads pictures only
            continue
        torch.testing.assert_close(seen(made, floats), theirs(floats), rtol=0, atol=1e-6)
    assert set(made.assets()) == {"data_config.json"}


@pytest.mark.parametrize("kind", [OfTransformers, OfTimm])
def test_it_travels(kind):
    """To other processes, and through assets, which name no place and no code."""
    values = PLAIN | {"auto_map": {"AutoImageProcessor": "evil.Evil"}}
    if kind is OfTimm:
        values = {"input_size": [3, 8, 8], "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 1.0}
    made = image(values, file=kind.file)
    want = seen(made, PHOTO)
    made.tokenizer = pickle.loads(pickle.dumps(made.tokenizer))
    assert torch.equal(seen(made, PHOTO), want)
    again = Image(size=8, patch=4, augment=False, preprocess="processor")
    again.restore(made.assets())
    assert torch.equal(seen(again, PHOTO), want)
    assert b"evil" not in b"".join(made.assets().values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"preprocess": "given"}, "with 'given', augment: false"),
        ({"preprocess": "given", "size": None, "augment": False}, "needs a size"),
        ({"preprocess": "processor", "mean": [0.0] * 3, "std": [1.0] * 3}, "no mean and std"),
    ],
    ids=str,
)
def test_arguments_that_do_not_go_together(arguments, said):
    with pytest.raises(BadRecipe, match=said):
        Image(**arguments)


def test_what_is_missing_or_wrong(tmp_path):
    made = Image(size=8, patch=4, preprocess="processor", augment=False)
    with pytest.raises(BadRecipe, match=r"comes with a model that is imported; name init_from"):
        made.fit([])
    with pytest.raises(BadRecipe, match=r"needs preprocessor_config\.json or data_config.json"):
        made.restore({})
    with pytest.raises(BadRecipe, match="no image processor"):
        image({"image_processor_type": "NoSuchProcessor"})
    with pytest.raises(BadRecipe, match="no data configuration of timm"):
        image({"input_size": [3, 8, 8]}, file="data_config.json")
    with pytest.raises(ValueError, match="comes out of the model's image processor, and the model reads 3 x 8 x 8"):
        image(PLAIN | {"size": {"shortest_edge": 8}}).tokenizer.tokenize(PHOTO)
    with pytest.raises(ValueError, match="too narrow"):
        image(PLAIN).tokenizer.tokenize(torch.zeros(1, 2, 3000))
    with pytest.raises(ValueError, match=r"float pixels lie in 0\.\.1"):
        image(PLAIN).tokenizer.tokenize(torch.full((3, 8, 8), 2.0))
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(BadRecord, match=r"a\.png"):
        image(PLAIN).tokenizer.tokenize(str(tmp_path / "a.png"))
