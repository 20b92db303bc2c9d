"""BEiT and data2vec's vision model: relative positions, layer scale, the head over another tokenizer's codes."""

import pytest
import torch
from foreign_images import SMALL, back, close, gradients_agree, noisy, pictures
from transformers import (
    BeitConfig,
    BeitForImageClassification,
    BeitForMaskedImageModeling,
    BeitModel,
    Data2VecVisionConfig,
    Data2VecVisionForImageClassification,
    Data2VecVisionModel,
)

import mmm
from mmm.core.draw import Draw
from mmm.core.tokens import Sample, pack
from mmm.core.view import View
from mmm.interop.architecture import Misfit
from mmm.interop.beit import Beit

SWITCHES = [
    {},
    {"use_relative_position_bias": True},
    {"use_shared_relative_position_bias": True},
    {"use_absolute_position_embeddings": True},
    {"use_absolute_position_embeddings": True, "use_shared_relative_position_bias": True, "use_mask_token": True},
    {"use_relative_position_bias": True, "use_mean_pooling": False},
    {"layer_scale_init_value": 0.0, "use_relative_position_bias": True},
    {"use_relative_position_bias": True, "image_size": 30, "num_channels": 1, "hidden_act": "relu"},
]


def saved(model, folder):
    noisy(model).save_pretrained(folder)
    return model


@pytest.mark.parametrize(
    "kind", [(BeitModel, BeitConfig), (Data2VecVisionModel, Data2VecVisionConfig)], ids=["beit", "data2vec"]
)
@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_features_are_the_library_s(tmp_path, kind, switch):
    theirs = saved(kind[0](kind[1](**SMALL | switch)), tmp_path)
    ours, given = mmm.load(tmp_path), pictures(switch.get("num_channels", 3), switch.get("image_size", 24))
    with torch.no_grad():
        want = [theirs(p[None]).last_hidden_state[0] for p in given]
        close(ours.hidden(given), want)
        close(ours.hidden(given[:1]), want[:1])


@pytest.mark.parametrize("kind", [BeitForImageClassification, Data2VecVisionForImageClassification])
def test_the_encoder_of_a_classifier(tmp_path, kind):
    theirs = saved(kind(kind.config_class(**SMALL, use_relative_position_bias=True)), tmp_path)
    given = pictures()
    base = getattr(theirs, theirs.base_model_prefix)
    with torch.no_grad():
        close(mmm.load(tmp_path).hidden(given), [base(p[None]).last_hidden_state[0] for p in given])


def pretrained(folder, **switch):
    """As the library loads it: version 5.23 swaps the encoder's and the head's norm where there are both (no mean pooling)."""
    config = BeitConfig(**SMALL | {"vocab_size": 50, "use_mask_token": True} | switch)
    saved(BeitForMaskedImageModeling(config), folder)
    return BeitForMaskedImageModeling.from_pretrained(folder).eval()


@pytest.mark.parametrize("mean", [False, True])
def test_the_codes_it_answers(tmp_path, mean):
    theirs = pretrained(tmp_path, use_shared_relative_position_bias=True, use_mean_pooling=mean)
    ours, given = mmm.load(tmp_path), pictures()
    with torch.no_grad():
        close([a[1:] for a in ours.logits(given)], [theirs(p[None]).logits[0] for p in given])
        tokenizer = ours.modalities["image"].tokenizer
        tokens = pack([Sample({"image": tokenizer.tokenize(given[0])})], {"image": tokenizer})
        hidden_T = torch.arange(10) % 3 == 1
        answers = ours.model.heads["image/ForeignCodes"](ours.model(View.of(tokens, hidden_T)))
        close([answers], [theirs(given[0][None], bool_masked_pos=hidden_T[None, 1:]).logits[0][hidden_T[1:]]])


def test_its_codes_cannot_be_learned_from(tmp_path):
    pretrained(tmp_path)
    ours = mmm.load(tmp_path)
    with pytest.raises(ValueError, match="no objective"):
        ours.objective.views(None, 0.0, Draw(0))
    target = ours.objective.by_modality["image"]
    with pytest.raises(ValueError, match="made these 50 codes is not here"):
        target.truth(None, torch.zeros(0))


@pytest.mark.parametrize("shared", [False, True])
def test_gradients(tmp_path, shared):
    pretrained(tmp_path, use_shared_relative_position_bias=shared, use_relative_position_bias=not shared)

    def theirs(model, picture):
        hidden = model.beit(picture[None]).last_hidden_state[0]
        return hidden.square().sum() + model.lm_head(model.layernorm(hidden)).square().sum()

    gradients_agree(
        mmm.load(tmp_path), tmp_path, theirs, lambda m, p: m.hidden([p])[0].square().sum() + m.logits([p])[0].square().sum()
    )


@pytest.mark.parametrize(
    "kind", [(BeitModel, BeitConfig), (Data2VecVisionModel, Data2VecVisionConfig)], ids=["beit", "data2vec"]
)
def test_a_switch_without_a_counterpart_is_named(tmp_path, kind):
    both = {"use_relative_position_bias": True, "use_shared_relative_position_bias": True}
    saved(kind[0](kind[1](**SMALL | both)), tmp_path)
    with pytest.raises(ValueError, match="use_shared_relative_position_bias True has no counterpart here"):
        mmm.load(tmp_path)


@pytest.mark.parametrize("headed", [False, True])
@pytest.mark.parametrize("switch", SWITCHES[1:6], ids=str)
def test_out_and_back(tmp_path, switch, headed):
    if headed:
        theirs = pretrained(tmp_path, **switch | {"use_mean_pooling": True})
    else:
        theirs = saved(BeitModel(BeitConfig(**SMALL | switch)), tmp_path)
    made = back(mmm.load(tmp_path), Beit())
    assert type(made) is type(theirs)
    made.save_pretrained(tmp_path / "out")
    again, given = type(theirs).from_pretrained(tmp_path / "out").eval(), torch.stack(pictures())
    with torch.no_grad():
        close(again(given)[0], theirs(given)[0])
    kept, was = again.state_dict(), theirs.state_dict()
    for name in was:
        if "pooler" not in name and not name.endswith(("cls_token", "position_embeddings")):
            assert torch.equal(kept[name], was[name]), name


def test_a_plain_vit_is_no_beit(tmp_path):
    saved(BeitModel(BeitConfig(**SMALL, layer_scale_init_value=0.0, use_absolute_position_embeddings=True)), tmp_path)
    with pytest.raises(Misfit, match="it is a ViT"):
        Beit().export(mmm.load(tmp_path))
