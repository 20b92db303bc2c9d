"""timm's vision transformers, from folders as timm writes them and by name."""

import logging

import numpy as np
import PIL.Image
import pytest
import timm
import torch
from foreign_images import back, close, gradients_agree, noisy, pictures

import mmm
from mmm.interop.architecture import Misfit
from mmm.interop.from_timm import Timm
from mmm.interop.timm_vit import TimmVit

SMALL = {"embed_dim": 24, "depth": 2, "num_heads": 3, "img_size": 24, "patch_size": 8, "mlp_ratio": 1.7, "num_classes": 5}
BASE = "vit_base_patch16_224"

SWITCHES = [
    (BASE, {}),
    ("vit_tiny_patch16_224", {"qkv_bias": False}),
    (BASE, {"class_token": False, "global_pool": "avg"}),
    (BASE, {"class_token": False, "global_pool": "avg", "reg_tokens": 2}),
    (BASE, {"reg_tokens": 3}),
    (BASE, {"reg_tokens": 2, "no_embed_class": True, "init_values": 0.1}),
    (BASE, {"global_pool": "avg", "fc_norm": True}),
    (BASE, {"global_pool": "avg", "fc_norm": False}),
    (BASE, {"global_pool": "map"}),
    (BASE, {"final_norm": False}),
    (BASE, {"pos_embed": "none", "img_size": 30}),
    (BASE, {"in_chans": 1, "act_layer": "gelu_tanh"}),
    (BASE, {"dynamic_img_size": True, "act_layer": "relu"}),
    ("vit_base_patch16_clip_224", {}),
    ("vit_base_patch16_clip_224", {"pos_embed": "none"}),
    ("deit_tiny_distilled_patch16_224", {}),
    ("deit3_small_patch16_224", {}),
]


def saved(folder, name=BASE, seed=0, **switch):
    arguments = SMALL | switch
    model = noisy(timm.create_model(name, **arguments), seed)
    timm.models.save_for_hf(model, folder, safe_serialization=True, model_args=arguments)
    return timm.create_model(f"local-dir:{folder}", pretrained=True).eval()


def read(model, given):
    """What timm's own transform makes of tensors and pictures, then its features."""
    config = timm.data.resolve_model_data_config(model) | {"input_size": (model.in_chans, *model.patch_embed.img_size)}
    transform = timm.data.create_transform(**config, is_training=False)
    with torch.no_grad():
        return [model.forward_features(transform(x)[None])[0] for x in given]


@pytest.mark.parametrize(("name", "switch"), SWITCHES, ids=str)
def test_features_are_the_library_s(tmp_path, name, switch):
    theirs = saved(tmp_path, name, **switch)
    ours = mmm.load(tmp_path)
    given = [p.sigmoid() for p in pictures(theirs.in_chans, 31)]
    with torch.no_grad():
        close(ours.hidden(given), read(theirs, given))
        close(ours.hidden(given[:1]), read(theirs, given[:1]))


def test_pictures_are_read_as_timm_reads_them(tmp_path):
    theirs, rng = saved(tmp_path), np.random.default_rng(0)
    ours = mmm.load(tmp_path)
    colours = PIL.Image.fromarray(rng.integers(0, 256, (50, 37, 3), dtype=np.uint8))
    colours.save(tmp_path / "a.png")
    want = read(theirs, [colours, colours])
    with torch.no_grad():
        close(ours.hidden([colours, np.array(colours)]), want)
        close(ours.hidden([tmp_path / "a.png", str(tmp_path / "a.png")], modality="image"), want)
        grey = colours.convert("L")
        close(ours.hidden([grey, np.array(grey)]), read(theirs, [grey.convert("RGB")] * 2))


def test_gradients(tmp_path):
    saved(tmp_path, reg_tokens=1, no_embed_class=True, init_values=0.1)
    transform = None

    def theirs(model, picture):
        nonlocal transform
        config = timm.data.resolve_model_data_config(model)
        transform = transform or timm.data.create_transform(**config, is_training=False)
        return model.forward_features(transform(picture.sigmoid())[None]).square().sum()

    gradients_agree(mmm.load(tmp_path), tmp_path, theirs, lambda m, p: m.hidden([p.sigmoid()])[0].square().sum())


@pytest.mark.parametrize(
    ("switch", "said"),
    [
        ({"qk_norm": True}, "qk_norm 'LayerNorm'"),
        ({"scale_attn_norm": True}, "scale_attn_norm 'LayerNorm'"),
        ({"scale_mlp_norm": True}, "scale_mlp_norm 'LayerNorm'"),
        ({"proj_bias": False}, "proj_bias False"),
        ({"norm_layer": "rmsnorm"}, "norm_layer 'RmsNorm'"),
        ({"act_layer": "silu"}, "act_layer 'SiLU'"),
        ({"attn_layer": "diff"}, "attn_layer 'DiffAttention'"),
        ({"in_chans": 4}, "in_chans 4"),
        ({"img_size": [24, 32]}, r"img_size \(24, 32\)"),
    ],
    ids=str,
)
def test_a_switch_without_a_counterpart_is_named(tmp_path, switch, said):
    saved(tmp_path, **switch)
    with pytest.raises(ValueError, match=f"{said} has no counterpart here"):
        mmm.load(tmp_path)


def test_an_architecture_that_is_no_vit(tmp_path):
    model = timm.create_model("resnet10t", num_classes=2)
    timm.models.save_for_hf(model, tmp_path, safe_serialization=True)
    with pytest.raises(ValueError, match="no import for 'resnet10t' of timm"):
        mmm.load(tmp_path)


def test_names_are_claimed_without_loading(tmp_path, monkeypatch):
    monkeypatch.setattr(timm, "create_model", None)
    library = Timm()
    claimed = ["vit_tiny_patch16_224", "vit_tiny_patch16_224.augreg_in21k", "timm/vit_tiny_patch16_224", "timm:no_such"]
    assert all(library.claims(name) for name in claimed)
    assert not any(library.claims(name) for name in ["google/vit-base-patch16-224", "bert-base-uncased", "", "a b", "x.ckpt"])
    (tmp_path / "config.json").write_text('{"architecture": "vit_tiny_patch16_224"}')
    assert library.claims(str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "vit", "architecture": "x"}')
    assert not library.claims(str(tmp_path))


@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "timm/vit_tiny_patch16_224.augreg_in21k", "timm:vit_tiny_patch16_224"]
)
def test_a_name(monkeypatch, name):
    """The library is asked for this name's pretrained weights; here it makes some up."""
    asked, real = [], timm.create_model

    def create(name, pretrained=False, **arguments):
        asked.append((name, pretrained))
        torch.manual_seed(0)
        return noisy(real(name.partition(".")[0], **SMALL))

    monkeypatch.setattr(timm, "create_model", create)
    ours, given = mmm.load(name), [p.sigmoid() for p in pictures()]
    assert asked[0] == (name.removeprefix("timm/").removeprefix("timm:"), True)
    with torch.no_grad():
        close(ours.hidden(given), read(create(asked[0][0]), given))


def test_weights_that_cannot_be_had(monkeypatch):
    def create(*args, **arguments):
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", create)
    with pytest.raises(ValueError, match="neither in the hub's cache nor can they be fetched: no route to host"):
        mmm.load("timm/vit_tiny_patch16_224")
    with pytest.raises(ValueError, match=r"timm has no model of this name. Did you mean 'vit_tiny_patch16_224'"):
        mmm.load("timm/vit_tiny_patch16_22")


def test_what_is_no_model(tmp_path):
    saved(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-500])
    with pytest.raises(ValueError, match="cannot be read safely"):
        mmm.load(tmp_path)
    weights.unlink()
    with pytest.raises(ValueError, match="cannot be read safely"):
        mmm.load(tmp_path)

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    torch.save({"x": Evil()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="cannot be read safely"):
        mmm.load(tmp_path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(("name", "switch"), SWITCHES, ids=str)
def test_out_and_back(tmp_path, name, switch):
    theirs = saved(tmp_path / "in", name, **switch)
    ours = mmm.load(tmp_path / "in")
    original = TimmVit().export(ours)
    made = back(ours, TimmVit())
    timm.models.save_for_hf(made, tmp_path / "out", safe_serialization=True, model_args=original.config["model_args"])
    again = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    given = torch.stack(pictures(theirs.in_chans, theirs.patch_embed.img_size[0]))
    with torch.no_grad():
        close(again.forward_features(given), theirs.forward_features(given))
    close(read(again, [given[0].sigmoid()]), read(theirs, [given[0].sigmoid()]))
    kept, was = again.state_dict(), theirs.state_dict()
    for key in kept.keys() & was.keys():
        if key not in ("cls_token", "reg_token", "pos_embed"):
            assert torch.equal(kept[key], was[key]), key


def test_ours_and_transformers_go_out_to_timm(tmp_path, caplog):
    from test_vit_mae import tiny
    from transformers import ViTConfig, ViTModel

    mae = tiny(encoder={"eps": 1e-6}, decoder={"eps": 1e-6})
    with caplog.at_level(logging.WARNING, "mmm"):
        made = back(mae, TimmVit())
    assert "left behind: image/Pixels, decoder" in caplog.text
    picture = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (45, 60), dtype=np.uint8))
    with torch.no_grad():
        close(mae.hidden([picture]), read(made, [picture]))
    vit = noisy(
        ViTModel(ViTConfig(hidden_size=24, num_hidden_layers=1, num_attention_heads=2, intermediate_size=40, image_size=16))
    )
    vit.save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING, "mmm"):
        made = back(mmm.load(tmp_path), TimmVit())
    assert "eps 1e-12 here and 1e-06 in timm" in caplog.text
    with torch.no_grad():
        given = torch.rand(1, 3, 16, 16)
        close(made.forward_features(given), vit(given).last_hidden_state)
    with pytest.raises(Misfit, match=r"its norms have eps 0\.001"):
        TimmVit().export(tiny(encoder={"eps": 1e-3}))
