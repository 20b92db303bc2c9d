"""AST in and out: features and gradients are those of the library on what its own feature extractor makes of waveforms."""

import json

import pytest
import torch
import torchaudio.functional as AF
from foreign_images import back, close
from foreign_sounds import RATE, alone, gradients_agree, instance, masked, records, saved, waves
from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification, ASTModel, AutoFeatureExtractor, AutoModel

import mmm
from mmm.core.draw import Draw
from mmm.interop.architecture import Misfit
from mmm.interop.spectrogram_transformer import Ast
from mmm.nn.spectral import KaldiMel

SMALL = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "num_mel_bins": 32,
    "max_length": 60,
    "patch_size": 8,
    "frequency_stride": 5,
    "time_stride": 6,
}
LENGTHS = (4000, 9900, 700, 4000)
"""Samples: 23, 60, 2 and 23 frames of the 60 that are read."""


def extractor(**switches) -> ASTFeatureExtractor:
    return ASTFeatureExtractor(**{"num_mel_bins": SMALL["num_mel_bins"], "max_length": SMALL["max_length"]} | switches)


@pytest.mark.parametrize("rate", [16000, 8000, 22050])
@pytest.mark.parametrize("mels", [128, 23])
def test_the_filterbank_is_the_library_s(rate, mels):
    theirs = ASTFeatureExtractor(num_mel_bins=mels, sampling_rate=rate, max_length=40, do_normalize=False)
    for wave in waves(rate // 40 + 1, rate // 3, rate):
        want = theirs(wave.numpy(), sampling_rate=rate, return_tensors="pt").input_values[0]
        ours = KaldiMel(rate, mels)(wave)
        assert len(ours) == KaldiMel(rate, mels).frames(len(wave))
        assert torch.equal(ours[:40], want[: len(ours)])
        assert not want[len(ours) :].any()


@pytest.mark.parametrize(
    "switch",
    [
        {},
        {"qkv_bias": False},
        {"hidden_act": "relu", "layer_norm_eps": 1e-3},
        {"frequency_stride": 8, "time_stride": 8},
        {"patch_size": 6, "frequency_stride": 7, "time_stride": 3},
        {"max_length": 64, "num_mel_bins": 20},
    ],
    ids=str,
)
def test_features_are_the_library_s(tmp_path, switch):
    config = ASTConfig(**SMALL | switch)
    own = extractor(num_mel_bins=config.num_mel_bins, max_length=config.max_length, mean=-3.0, std=2.5)
    theirs, given = saved(ASTModel(config), tmp_path, own), waves(*LENGTHS)
    ours = mmm.load(tmp_path)
    with torch.no_grad():
        want = alone(theirs, own, given)
        close(ours.hidden(records(given)), want)
        close(ours.hidden(records(given[:1])), want[:1])
    with pytest.raises(ValueError, match="has no head"):
        ours.logits(records(given))


def test_processors(tmp_path):
    """Without normalisation, at another rate, and none at all: then energies are taken as they come."""
    theirs, given = saved(ASTModel(ASTConfig(**SMALL)), tmp_path, None), waves(*LENGTHS)
    plain = extractor(do_normalize=False)
    with torch.no_grad():
        want = alone(theirs, plain, given)
        close(mmm.load(tmp_path).hidden(records(given)), want)
        energies = [plain(w.numpy(), sampling_rate=RATE, return_tensors="np").input_values[0] for w in given]
        close(mmm.load(tmp_path).hidden(energies), want)
        plain.save_pretrained(tmp_path)
        close(mmm.load(tmp_path).hidden(records(given)), want)
        slow = extractor(sampling_rate=8000)
        slow.save_pretrained(tmp_path)
        half = [AF.resample(w, RATE, 8000) for w in given[:2]]
        inputs = [slow(w.numpy(), sampling_rate=8000, return_tensors="pt").input_values for w in half]
        close(mmm.load(tmp_path).hidden(records(given[:2])), [theirs(x).last_hidden_state[0] for x in inputs])
    extractor(max_length=50).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"max_length of preprocessor_config\.json 50 has no counterpart here"):
        mmm.load(tmp_path)


def test_the_encoder_of_a_classifier(tmp_path):
    theirs, given = saved(ASTForAudioClassification(ASTConfig(**SMALL, num_labels=3)), tmp_path, extractor()), waves(*LENGTHS)
    with torch.no_grad():
        want = alone(theirs.audio_spectrogram_transformer, extractor(), given)
        close(mmm.load(tmp_path).hidden(records(given)), want)


def test_a_record_that_would_be_cropped_is_refused(tmp_path):
    saved(ASTModel(ASTConfig(**SMALL)), tmp_path, extractor())
    ours = mmm.load(tmp_path)
    ours.hidden(records(waves(60 * 160 + 399)))
    with pytest.raises(ValueError, match="longer than this model reads"):
        ours.hidden(records(waves(60 * 160 + 400)))


def test_gradients(tmp_path):
    saved(ASTModel(ASTConfig(**SMALL)), tmp_path, extractor())
    given, ours = waves(*LENGTHS), mmm.load(tmp_path)

    def loss(model):
        return sum(x.square().sum() for x in alone(model, extractor(), given)) / 100

    def own(m):
        return sum(x.square().sum() for x in masked(m, records(given), lambda n: torch.zeros(n, dtype=torch.bool))) / 100

    compared = gradients_agree(ours, str(tmp_path), loss, own)
    assert dict(ours.model.named_parameters()).keys() - compared == {"modalities.spectrogram.mask"}


def test_a_wrong_map_is_refused(tmp_path, monkeypatch):
    saved(ASTModel(ASTConfig(**SMALL)), tmp_path, extractor())
    right = Ast.model

    def turned(self, original):
        section = right(self, original)
        section["modalities"]["spectrogram"]["init_args"]["stride"] = [5, 5]
        original.config["time_stride"] = 5
        return section

    monkeypatch.setattr(Ast, "model", turned)
    with pytest.raises(ValueError, match="do not fit its recipe"):
        mmm.load(tmp_path)
    links = Ast.links

    def transposed(self, config, names):
        found = links(self, config, names)
        weight = found[0]
        found[0] = type(weight)(weight.theirs, weight.ours, lambda x: weight.inward(x.mT))
        return found

    monkeypatch.setattr(Ast, "model", right)
    monkeypatch.setattr(Ast, "links", transposed)
    with pytest.raises(ValueError, match="more than 1e-04: the import is refused"):
        mmm.load(tmp_path)


def test_a_switch_without_a_counterpart_is_named(tmp_path):
    saved(ASTModel(ASTConfig(**SMALL | {"hidden_act": "silu"})), tmp_path, extractor())
    with pytest.raises(ValueError, match="hidden_act 'silu' has no counterpart here"):
        mmm.load(tmp_path)


@pytest.mark.parametrize("switch", [{}, {"qkv_bias": False}], ids=str)
def test_out_and_back(tmp_path, switch):
    own = extractor(mean=-3.0, std=2.5)
    theirs, given = saved(ASTModel(ASTConfig(**SMALL | switch)), tmp_path, own), waves(*LENGTHS)
    ours = mmm.load(tmp_path)
    back(ours, Ast()).save_pretrained(tmp_path / "out")
    Ast().save_files(ours, tmp_path / "out")
    again, written = AutoModel.from_pretrained(tmp_path / "out").eval(), AutoFeatureExtractor.from_pretrained(tmp_path / "out")
    with torch.no_grad():
        close(alone(again, written, given), alone(theirs, own, given))
    kept, was = again.state_dict(), theirs.state_dict()
    assert kept.keys() == was.keys()
    summed = ("embeddings.cls_token", "embeddings.distillation_token", "embeddings.position_embeddings")
    assert all(torch.equal(kept[name], was[name]) for name in was if name not in summed)
    assert torch.equal(kept[summed[2]][:, 2:], was[summed[2]][:, 2:])


def recipe(encoder: dict | None = None, **arguments) -> dict:
    sound = {"mels": 16, "frames": 30, "pad": True, "patch": [8, 8], "stride": [4, 8], "cls": True, "registers": 1}
    sound |= {"positions": "learned"} | arguments
    return {
        "modalities": {"spectrogram": {"class_path": "Spectrogram", "init_args": sound}},
        "encoder": {"class_path": "Transformer", "init_args": {"width": 16, "depth": 1, "heads": 2} | (encoder or {})},
        "objective": {
            "class_path": "MaskedModeling",
            "init_args": {
                "masking": {"spectrogram": {"class_path": "Block", "init_args": {"rate": 0.5}}},
                "corruption": "MaskVector",
                "targets": {"spectrogram": {"class_path": "Pixels", "init_args": {"normalise": True}}},
            },
        },
    }


FITTED = json.dumps({"mean": -4.0, "std": 3.0}).encode()


def test_a_model_of_ours_goes_out(tmp_path):
    ours, given = instance(recipe(), spectrogram=FITTED), waves(2000, 5000, 3000)
    made = back(ours, Ast())
    made.save_pretrained(tmp_path)
    Ast().save_files(ours, tmp_path)
    theirs, written = AutoModel.from_pretrained(tmp_path).eval(), AutoFeatureExtractor.from_pretrained(tmp_path)
    with torch.no_grad():
        close(ours.hidden(records(given)), alone(theirs, written, given))
        close(mmm.load(tmp_path).hidden(records(given)), ours.hidden(records(given)))
    assert [x.shape for x in ours.logits(records(given))] == [(2 + 3 * 3, 64)] * 3


def test_a_recipe_learns_from_what_it_hides():
    """The objective of a recipe on this modality: counts, a loss, a gradient of the mask vector."""
    from mmm.core.tokens import Sample, pack

    ours = instance(recipe(), spectrogram=FITTED)
    tokenizer = ours.modalities["spectrogram"].tokenizer
    pieces = [Sample({"spectrogram": tokenizer.tokenize(r, Draw(0))}, i) for i, r in enumerate(records(waves(2000, 5000)))]
    tokens = pack(pieces, {"spectrogram": tokenizer})
    views = ours.objective.views(tokens, 0.0, Draw(1))
    (term,) = ours.objective(ours.model, tokens, views, 0.0)
    assert term.count == 8  # round(0.5 x 9) of each of the two
    term.total.backward()
    assert float(ours.modalities["spectrogram"].mask.grad.abs().sum()) > 0


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (recipe(pad=False), r"records as long as they are \(pad: false\)"),
        (recipe(cls=False), "something else than CLS and one register"),
        (recipe(registers=3), "something else than CLS and one register"),
        (recipe(positions="sinusoidal"), "positions 'sinusoidal'"),
        (recipe(norm=True), "a norm of the embedding"),
        (recipe(patch=[8, 4]), "patches of 8 bands x 4 frames"),
        (recipe({"order": "post"}), "norms after the residual sum"),
        (recipe({"norm": "rms"}), "RMS norms"),
        (recipe({"bias": False}), "products without a bias"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_is_said(section, said):
    with pytest.raises(Misfit, match=said):
        Ast().export(instance(section, spectrogram=FITTED))
