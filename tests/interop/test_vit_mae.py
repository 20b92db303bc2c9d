"""ViT-MAE in and out: encoder, decoder, and pre-training that goes on."""

import json
from pathlib import Path

import pytest
import torch
from foreign_images import SMALL, back, close, gradients_agree, noisy, pictures
from transformers import AutoImageProcessor, ViTMAEConfig, ViTMAEForPreTraining, ViTMAEModel
from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding

import mmm
from mmm.core.draw import Draw
from mmm.core.masking import Masking
from mmm.core.tokens import Sample, pack
from mmm.interop.architecture import Misfit
from mmm.interop.vit_mae import VitMae
from mmm.loaded import Loaded
from mmm.recipe import Recipe, instantiate, resolve
from mmm.sources import open_source
from mmm.yaml import loads

DECODER = {
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 2,
    "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 36,
}
SINES = ("vit.embeddings.position_embeddings", "embeddings.position_embeddings", "decoder.decoder_pos_embed")


def saved(model, folder, sines):
    """With the sines of MAE (a fresh model of the library has zeros), or with any other positions."""
    noisy(model)
    for name, table in model.named_parameters():
        if sines and name in SINES:
            made = build_2d_sinusoidal_position_embedding(3, 3, table.shape[-1], cls_token=True)
            table.data = made.roll(table.shape[-1] // 2, dims=1)[None]
    model.save_pretrained(folder)
    return model


def everything(model, picture):
    """(hidden, answers at the patches) with nothing dropped."""
    model.config.mask_ratio = 0.0
    out = model(picture[None], noise=torch.arange(9.0)[None], output_hidden_states=True)
    if not hasattr(model, "decoder"):
        return out.last_hidden_state[0], None
    return model.vit(picture[None], noise=torch.arange(9.0)[None]).last_hidden_state[0], out.logits[0]


@pytest.mark.parametrize("sines", [True, False])
@pytest.mark.parametrize(
    "switch",
    [{}, {"qkv_bias": False}, {"hidden_act": "relu", "layer_norm_eps": 1e-4}, {"num_channels": 1, "norm_pix_loss": True}],
    ids=str,
)
def test_encoder_and_decoder(tmp_path, switch, sines):
    theirs = saved(ViTMAEForPreTraining(ViTMAEConfig(**SMALL | DECODER | switch)), tmp_path, sines)
    ours, given = mmm.load(tmp_path), pictures(switch.get("num_channels", 3))
    assert ours.modalities["image"].positions == ("sinusoidal" if sines else "learned")
    assert (ours.model.decoder.position is None) == sines
    assert ours.objective.targets()["image/Pixels"].normalise == switch.get("norm_pix_loss", False)
    with torch.no_grad():
        want = [everything(theirs, p) for p in given]
        close(ours.hidden(given), [h for h, _ in want])
        close([a[1:] for a in ours.logits(given)], [a for _, a in want])
        close(ours.logits(given[:1]), ours.logits(given)[:1])


@pytest.mark.parametrize("sines", [True, False])
def test_the_encoder_alone(tmp_path, sines):
    theirs = saved(ViTMAEModel(ViTMAEConfig(**SMALL)), tmp_path, sines)
    ours, given = mmm.load(tmp_path), pictures()
    with torch.no_grad():
        close(ours.hidden(given), [everything(theirs, p)[0] for p in given])
    with pytest.raises(ValueError, match="has no head"):
        ours.logits(given)


class Given(Masking):
    """The ranking that the other implementation was given as noise; it keeps the lowest."""

    def __init__(self, rate, noise):
        super().__init__(rate)
        self.noise = noise

    def rank(self, tokens, progress, draw):
        return -torch.nn.functional.pad(self.noise[tokens.layout.sample_S], (1, 0)).flatten()


@pytest.mark.parametrize("normalise", [False, True])
def test_pre_training_goes_on_where_it_stopped(tmp_path, normalise):
    """Loss and answers with the same patches dropped."""
    config = ViTMAEConfig(**SMALL | DECODER, norm_pix_loss=normalise, mask_ratio=2 / 3)
    theirs = saved(ViTMAEForPreTraining(config), tmp_path, True)
    ours, given = mmm.load(tmp_path), pictures()
    noise = torch.rand(3, 9, generator=torch.Generator().manual_seed(0))
    assert ours.objective.masking["image"].rate.rate == pytest.approx(2 / 3)
    ours.objective.masking["image"] = Given(2 / 3, noise)
    tokenizer = ours.modalities["image"].tokenizer
    tokens = pack([Sample({"image": tokenizer.tokenize(p)}, i) for i, p in enumerate(given)], {"image": tokenizer})
    views = ours.objective.views(tokens, 0.0, Draw(0))
    (term,) = ours.objective(ours.model, tokens, views, 0.0)
    want = theirs(torch.stack(given), noise=noise)
    assert float((term.total / term.count).detach()) == pytest.approx(float(want.loss.detach()), rel=1e-4)


@pytest.mark.parametrize("sines", [True, False])
def test_gradients(tmp_path, sines):
    saved(ViTMAEForPreTraining(ViTMAEConfig(**SMALL | DECODER)), tmp_path, sines)

    def theirs(model, picture):
        hidden, answers = everything(model, picture)
        return hidden.square().sum() + answers.square().sum()

    gradients_agree(
        mmm.load(tmp_path), tmp_path, theirs, lambda m, p: m.hidden([p])[0].square().sum() + m.logits([p])[0][1:].square().sum()
    )


@pytest.mark.parametrize("sines", [True, False])
@pytest.mark.parametrize("decodes", [True, False])
def test_out_and_back(tmp_path, decodes, sines):
    config = ViTMAEConfig(**SMALL | DECODER, norm_pix_loss=True, mask_ratio=0.5)
    theirs = saved(ViTMAEForPreTraining(config) if decodes else ViTMAEModel(config), tmp_path, sines)
    made = back(mmm.load(tmp_path), VitMae())
    assert type(made) is type(theirs)
    made.save_pretrained(tmp_path / "out")
    again = type(theirs).from_pretrained(tmp_path / "out").eval()
    if decodes:
        assert (again.config.norm_pix_loss, again.config.mask_ratio) == (True, 0.5)
    with torch.no_grad():
        for picture in pictures():
            close(
                [x for x in everything(again, picture) if x is not None],
                [x for x in everything(theirs, picture) if x is not None],
            )
    kept, was = again.state_dict(), theirs.state_dict()
    for name in was:
        if not name.endswith(("cls_token", "position_embeddings")) or sines:
            assert torch.allclose(kept[name], was[name], atol=1e-7), name


def tiny(**changes):
    """The recipe that is in the repository, with weights that were never trained."""
    path = Path(__file__).parents[2] / "recipes/image/mae-tiny.yaml"
    values = resolve(loads(path.read_text(encoding="utf-8"), str(path)), str(path))
    for part, arguments in changes.items():
        values["model"][part]["init_args"] |= arguments
    training = instantiate(Recipe("mae-tiny", values), Loaded)
    statistics = json.dumps({"mean": [0.13], "std": [0.31]}).encode()
    training.restore({"modalities/image": {"statistics.json": statistics}, "targets/image/Pixels": {}})
    return noisy(training, std=0.08)


def test_our_own_recipe_goes_out(tmp_path):
    """Grey pictures through the processor it is given: equal where nothing is resized, within 8-bit rounding where it is."""
    import PIL.Image

    ours = tiny()
    back(ours, VitMae()).save_pretrained(tmp_path)
    VitMae().save_files(ours, tmp_path)
    theirs = ViTMAEForPreTraining.from_pretrained(tmp_path).eval()
    assert theirs.config.mask_ratio == 0.75
    processor, generator = AutoImageProcessor.from_pretrained(tmp_path), torch.Generator().manual_seed(0)
    theirs.config.mask_ratio = 0.0
    for size, within in (((28, 28), 1e-4), ((57, 41), 0.1)):
        pixels = torch.rand(*size, generator=generator).mul(255).byte().numpy()
        picture = PIL.Image.fromarray(pixels)
        made = processor(picture, return_tensors="pt").pixel_values
        with torch.no_grad():
            want = theirs.vit(made, noise=torch.arange(49.0)[None]).last_hidden_state
            close(ours.hidden([picture]), want, within)
    again = open_source(str(tmp_path)).loaded()
    assert (again.modalities["image"].positions, again.model.decoder.position) == ("sinusoidal", None)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"decoder": {"eps": 1e-6}}, "a decoder with other numbers"),
        ({"decoder": {"activation": "relu"}}, "a decoder with other numbers"),
        ({"encoder": {"scale": 0.1}}, "layer scale"),
        ({"encoder": {"order": "post"}}, "norms after the residual sum"),
    ],
    ids=str,
)
def test_a_model_that_does_not_fit(changes, said):
    with pytest.raises(Misfit, match=said):
        VitMae().export(tiny(**changes))
