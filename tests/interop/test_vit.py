"""ViT in and out: features, pixel answers and gradients are those of the library."""

import json
import logging

import numpy as np
import PIL.Image
import pytest
import torch
from foreign_images import SMALL, back, close, gradients_agree, noisy, pictures
from transformers import AutoImageProcessor, ViTConfig, ViTForImageClassification, ViTForMaskedImageModeling, ViTModel

import mmm
from mmm.core.draw import Draw
from mmm.core.tokens import Sample, pack
from mmm.interop.architecture import Misfit
from mmm.interop.vit import Vit
from mmm.loaded import Loaded
from mmm.recipe import Recipe, instantiate, resolve
from mmm.sources import open_source
from mmm.yaml import dump


def saved(model, folder):
    noisy(model).save_pretrained(folder)
    return model


SWITCHES = [
    {},
    {"qkv_bias": False},
    {"hidden_act": "relu"},
    {"hidden_act": "gelu_pytorch_tanh"},
    {"layer_norm_eps": 1e-3},
    {"num_channels": 1},
    {"image_size": 30},
    {"image_size": [24, 24], "patch_size": [8, 8]},
    {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.2},
    {"pooler_act": "relu", "pooler_output_size": 5},
]


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_features_are_the_library_s(tmp_path, switch):
    theirs = saved(ViTModel(ViTConfig(**SMALL | switch)), tmp_path)
    ours = mmm.load(tmp_path)
    size = switch.get("image_size", 24)
    given = pictures(switch.get("num_channels", 3), size if isinstance(size, int) else size[0])
    with torch.no_grad():
        want = [theirs(p[None]).last_hidden_state[0] for p in given]
        close(ours.hidden(given), want)
        close(ours.hidden(given[:1]), want[:1])
    with pytest.raises(ValueError, match="has no head"):
        ours.logits(given)


def test_the_encoder_of_a_classifier(tmp_path):
    theirs = saved(ViTForImageClassification(ViTConfig(**SMALL, num_labels=5)), tmp_path)
    given = pictures()
    with torch.no_grad():
        close(mmm.load(tmp_path).hidden(given), [theirs.vit(p[None]).last_hidden_state[0] for p in given])


def test_the_pixel_head(tmp_path):
    """Rows of ours are the pixels of theirs; also with some patches masked."""
    theirs = saved(ViTForMaskedImageModeling(ViTConfig(**SMALL, encoder_stride=8)), tmp_path)
    ours, given = mmm.load(tmp_path), pictures()
    tokenizer = ours.modalities["image"].tokenizer
    with torch.no_grad():
        want = [theirs(p[None]).reconstruction[0] for p in given]
        answers = ours.logits(given)
        close([tokenizer.unpatchify(a[1:], (3, 3)) for a in answers], [w.clamp(0, 1) for w in want])
        tokens = pack([Sample({"image": tokenizer.tokenize(p)}, i) for i, p in enumerate(given)], {"image": tokenizer})
        (view,) = ours.objective.views(tokens, 0.0, Draw(0))
        (answer,) = ours.objective.answers(ours.model, tokens, [view])
        mask = torch.zeros(len(tokens)).index_fill(0, view.answer_N, 1).view(3, 10)[:, 1:].bool()
        assert int(mask[0].sum()) == 5  # round(0.6 x 9)
        order = tokens.layout.sample_S.tolist()
        whole = theirs(torch.stack([given[i] for i in order]), bool_masked_pos=mask).reconstruction
        rows = whole.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 4, 5, 1).reshape(3, 9, -1)
        close([answer.output_NV], [rows[mask]])


def test_a_pixel_head_of_another_size_is_left_aside(tmp_path):
    saved(ViTForMaskedImageModeling(ViTConfig(**SMALL, encoder_stride=4)), tmp_path)
    with pytest.raises(ValueError, match="has no head"):
        mmm.load(tmp_path).logits(pictures())


def test_gradients(tmp_path):
    saved(ViTForMaskedImageModeling(ViTConfig(**SMALL, encoder_stride=8)), tmp_path)
    ours = mmm.load(tmp_path)

    def theirs(model, picture):
        head, hidden = model.decoder[0], model.vit(picture[None]).last_hidden_state[0]
        answer = torch.nn.functional.linear(hidden, head.weight[:, :, 0, 0], head.bias)
        return hidden.square().sum() + answer.square().sum()

    gradients_agree(ours, tmp_path, theirs, lambda m, p: m.hidden([p])[0].square().sum() + m.logits([p])[0].square().sum())


@pytest.mark.parametrize(
    ("switch", "said"),
    [
        ({"hidden_act": "silu"}, "hidden_act 'silu'"),
        ({"image_size": [24, 32]}, r"image_size \[24, 32\]"),
        ({"patch_size": [8, 4]}, r"patch_size \[8, 4\]"),
        ({"num_channels": 4}, "num_channels 4"),
    ],
    ids=str,
)
def test_a_switch_without_a_counterpart_is_named(tmp_path, switch, said):
    saved(ViTModel(ViTConfig(**SMALL | switch)), tmp_path)
    with pytest.raises(ValueError, match=f"{said} has no counterpart here"):
        mmm.load(tmp_path)


def test_a_wrong_map_is_refused(tmp_path, monkeypatch):
    saved(ViTModel(ViTConfig(**SMALL)), tmp_path)
    from mmm.interop import _vision

    right = _vision.block_links

    def swapped(theirs, ours, names):
        links = right(theirs, ours, names)
        at = [i for i, link in enumerate(links) if link.theirs[0].endswith(("layernorm_before.bias", "layernorm_after.bias"))]
        links[at[0]], links[at[1]] = (type(links[0])(links[a].theirs, links[b].ours) for a, b in (at, at[::-1]))
        return links

    monkeypatch.setattr(_vision, "block_links", swapped)
    with pytest.raises(ValueError, match="more than 1e-04: the import is refused"):
        mmm.load(tmp_path)


def test_what_is_no_model(tmp_path):
    theirs = ViTModel(ViTConfig(**SMALL))
    saved(theirs, tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-500])
    with pytest.raises(ValueError, match="cannot be read safely"):
        mmm.load(tmp_path / "cut")
    theirs.config.save_pretrained(tmp_path / "code")

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    torch.save({"x": Evil()}, tmp_path / "code" / "pytorch_model.bin")
    with pytest.raises(ValueError, match="cannot be read safely"):
        mmm.load(tmp_path / "code")
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("headed", [False, True])
def test_out_and_back(tmp_path, headed):
    config = ViTConfig(**SMALL, encoder_stride=8, qkv_bias=headed)
    theirs = saved(ViTForMaskedImageModeling(config) if headed else ViTModel(config), tmp_path)
    ours = mmm.load(tmp_path)
    made = back(ours, Vit())
    assert type(made) is type(theirs)
    made.save_pretrained(tmp_path / "out")
    again, given = type(theirs).from_pretrained(tmp_path / "out").eval(), torch.stack(pictures())
    with torch.no_grad():
        close(again(given)[0], theirs(given)[0])
    kept, was = again.state_dict(), theirs.state_dict()
    base = "vit." if headed else ""
    for name in was:
        if "pooler" not in name and not name.endswith(("cls_token", "position_embeddings")):
            assert torch.equal(kept[name], was[name]), name
    table = f"{base}embeddings.position_embeddings"
    assert torch.equal(kept[table][:, 1:], was[table][:, 1:])


def recipe(**arguments):
    image = {"size": 16, "patch": 8, "cls": True, "positions": "learned", "mean": [0.1, 0.2, 0.3], "std": [1.0, 2.0, 3.0]}
    encoder = {"width": 16, "depth": 1, "heads": 2} | arguments.pop("encoder", {})
    section = {
        "modalities": {"image": {"class_path": "Image", "init_args": image | arguments}},
        "encoder": {"class_path": "Transformer", "init_args": encoder},
        "objective": "NoObjective",
    }
    training = instantiate(Recipe("own", resolve({"model": section}, "own")), Loaded)
    training.restore({"modalities/image": {}})
    return noisy(training)


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_a_model_of_ours_goes_out(tmp_path, positions):
    ours = recipe(positions=positions)
    back(ours, Vit()).save_pretrained(tmp_path)
    Vit().save_files(ours, tmp_path)
    theirs, picture = ViTModel.from_pretrained(tmp_path).eval(), torch.rand(3, 16, 16)
    from transformers import AutoImageProcessor

    pixels = AutoImageProcessor.from_pretrained(tmp_path)(picture, do_rescale=False, return_tensors="pt").pixel_values
    eight_bit = (picture * 255).round() / 255  # as ours reads an array
    with torch.no_grad():
        close(ours.hidden([eight_bit]), theirs(pixels).last_hidden_state, 0.05)
        mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([1.0, 2.0, 3.0])
        exact = ((eight_bit - mean[:, None, None]) / std[:, None, None])[None]
        close(ours.hidden([eight_bit]), theirs(exact).last_hidden_state)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"cls": False}, "other specials than one CLS"),
        ({"registers": 1}, "other specials than one CLS"),
        ({"positions": "none"}, "no absolute positions"),
        ({"norm": True}, "a norm of the embedding"),
        ({"size": None, "positions": "sinusoidal"}, "images of any size"),
        ({"encoder": {"order": "post"}}, "norms after the residual sum"),
        ({"encoder": {"norm": "rms"}}, "RMS norms"),
        ({"encoder": {"activation": "swiglu"}}, "activation swiglu"),
        ({"encoder": {"rotary": 2}}, "rotary positions"),
        ({"encoder": {"scale": 0.1}}, "layer scale"),
        ({"encoder": {"relative": {"rows": 2, "columns": 2}}}, "relative positions"),
        ({"encoder": {"last_norm": False}}, "no last norm"),
    ],
    ids=str,
)
def test_a_model_that_does_not_fit(arguments, said):
    with pytest.raises(Misfit, match=said):
        Vit().export(recipe(**arguments))


PROCESSORS = [
    {"image_processor_type": "ViTImageProcessor", "size": {"height": 24, "width": 24}},
    {"image_processor_type": "ViTImageProcessor", "size": {"height": 24, "width": 24}, "do_rescale": False, "resample": 3},
    {
        "image_processor_type": "BeitImageProcessor",
        "size": {"shortest_edge": 31},
        "do_center_crop": True,
        "crop_size": {"height": 24, "width": 24},
        "image_mean": [0.1, 0.2, 0.3],
    },
    {"feature_extractor_type": "ViTFeatureExtractor", "size": 24, "do_convert_rgb": True},
]


@pytest.mark.parametrize("values", PROCESSORS, ids=lambda v: next(iter(v.values())) + str(v.get("do_rescale", "")))
def test_preprocessing_is_the_model_s_own(tmp_path, values):
    """Strings, paths and pictures; the recipe it becomes names no place, and the processor goes out as it came."""
    theirs = saved(ViTModel(ViTConfig(**SMALL)), tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
    processor, rng = AutoImageProcessor.from_pretrained(tmp_path), np.random.default_rng(0)
    pictures = [
        PIL.Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in ((37, 53), (24, 24), (80, 26))
    ]
    pictures[0].save(tmp_path / "a.png")
    ours = mmm.load(tmp_path)
    with torch.no_grad():
        want = [theirs(**processor(p, return_tensors="pt")).last_hidden_state[0] for p in pictures]
        close(ours.hidden(pictures), want)
        close(ours.hidden([str(tmp_path / "a.png"), np.array(pictures[1])], modality="image"), want[:2])
        close(ours.hidden([tmp_path / "a.png"]), want[:1])
        floats = rng.random((3, 40, 33), dtype=np.float32)
        pixels = processor(floats, do_rescale=False, return_tensors="pt").pixel_values
        if values.get("do_rescale", True):
            close(ours.hidden([floats]), theirs(pixels).last_hidden_state)
    source = open_source(str(tmp_path))
    assert str(tmp_path) not in dump(source.values)
    Vit().save_files(source.loaded(), tmp_path / "..")
    again = AutoImageProcessor.from_pretrained(tmp_path / "..")
    assert again.to_dict() == processor.to_dict()


def test_a_broken_processor_is_refused(tmp_path):
    saved(ViTModel(ViTConfig(**SMALL)), tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(ValueError, match="its image processor cannot be read"):
        mmm.load(tmp_path)


def test_the_difference_is_told(tmp_path, caplog):
    saved(ViTModel(ViTConfig(**SMALL)), tmp_path)
    with caplog.at_level(logging.INFO, "mmm"):
        mmm.load(tmp_path)
    assert "largest difference of outputs on 3 records" in caplog.text
