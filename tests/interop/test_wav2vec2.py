"""wav2vec 2.0 in and out: features and gradients are those of the library, each record alone there and ragged here."""

import pytest
import torch
from foreign_images import back, close
from foreign_sounds import RATE, SMALL, alone, gradients_agree, instance, masked, records, saved, waves
from transformers import (
    AutoModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2ForPreTraining,
    Wav2Vec2Model,
)

import mmm
from mmm.interop.architecture import Misfit
from mmm.interop.wav2vec2 import Wav2Vec2
from mmm.sources import open_source

LARGE = {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True}
NORMALISED = Wav2Vec2FeatureExtractor(do_normalize=True)
PLAIN = Wav2Vec2FeatureExtractor(do_normalize=False)


@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize(
    "switch",
    [
        {},
        LARGE,
        {"do_stable_layer_norm": True, "layer_norm_eps": 1e-3, "hidden_act": "relu"},
        {"conv_dim": (32, 32, 32), "conv_stride": (4, 4, 4), "conv_kernel": (8, 8, 8), "conv_bias": True},
    ],
    ids=str,
)
def test_features_are_the_library_s(tmp_path, switch, normalise):
    theirs = saved(Wav2Vec2Model(Wav2Vec2Config(**SMALL | switch)), tmp_path, normalise)
    ours, given = mmm.load(tmp_path), waves()
    with torch.no_grad():
        want = alone(theirs, NORMALISED if normalise else PLAIN, given)
        close(ours.hidden(records(given)), want)
        close(ours.hidden(records(given[1:2])), want[1:2])


@pytest.mark.parametrize("cls", [Wav2Vec2ForPreTraining, Wav2Vec2ForCTC])
def test_what_is_around_the_encoder_stays_behind(tmp_path, cls):
    quantiser = {"codevector_dim": 8, "proj_codevector_dim": 8, "num_codevectors_per_group": 4}
    theirs, given = saved(cls(Wav2Vec2Config(**SMALL | quantiser)), tmp_path), waves()
    source = open_source(tmp_path)
    assert ("quantizer" if cls is Wav2Vec2ForPreTraining else "lm_head") in source.notes[0]
    ours = source.loaded()
    with torch.no_grad():
        close(ours.hidden(records(given)), alone(theirs.wav2vec2, NORMALISED, given))
    with pytest.raises(ValueError, match="has no head"):
        ours.logits(records(given))


def test_gradients_with_masks(tmp_path):
    saved(Wav2Vec2Model(Wav2Vec2Config(**SMALL | LARGE)), tmp_path)
    given = waves(3000, 5000)

    def hidden(n):
        return torch.arange(n) % 3 == 1

    def loss(model):
        total = torch.zeros(())
        for wave in given:
            x = NORMALISED(wave.numpy(), sampling_rate=RATE, return_tensors="pt").input_values
            n = int(model._get_feat_extract_output_lengths(x.shape[1]))
            total = total + model(x, mask_time_indices=hidden(n)[None]).last_hidden_state.square().sum()
        return total / 100

    ours = mmm.load(tmp_path)
    compared = gradients_agree(
        ours, str(tmp_path), loss, lambda m: sum(x.square().sum() for x in masked(m, records(given), hidden)) / 100
    )
    assert compared == dict(ours.model.named_parameters()).keys()


@pytest.mark.parametrize(
    ("switch", "said"),
    [
        ({"add_adapter": True}, "add_adapter True"),
        ({"adapter_attn_dim": 8, "do_stable_layer_norm": True}, "adapter_attn_dim 8"),
    ],
)
def test_a_switch_without_a_counterpart_is_named(tmp_path, switch, said):
    saved(Wav2Vec2Model(Wav2Vec2Config(**SMALL | switch)), tmp_path)
    with pytest.raises(ValueError, match=f"{said} has no counterpart here"):
        mmm.load(tmp_path)


@pytest.mark.parametrize("switch", [{}, LARGE], ids=["base", "large"])
def test_out_and_back(tmp_path, switch):
    theirs, given = saved(Wav2Vec2Model(Wav2Vec2Config(**SMALL | switch)), tmp_path, False), waves()
    ours = mmm.load(tmp_path)
    back(ours, Wav2Vec2()).save_pretrained(tmp_path / "out")
    Wav2Vec2().save_files(ours, tmp_path / "out")
    again, extractor = (
        AutoModel.from_pretrained(tmp_path / "out").eval(),
        Wav2Vec2FeatureExtractor.from_pretrained(tmp_path / "out"),
    )
    with torch.no_grad():
        close(alone(again, extractor, given), alone(theirs, PLAIN, given))
    kept, was = again.state_dict(), theirs.state_dict()
    assert kept.keys() == was.keys()
    assert all(torch.equal(kept[name], was[name]) for name in was)


def test_features_without_a_norm_do_not_fit():
    audio = {"front_end": "waveform", "positions": "conv", "norm": True, "conv_width": 16, "feature_norm": False}
    section = {
        "modalities": {"audio": {"class_path": "Audio", "init_args": audio}},
        "encoder": {"class_path": "Transformer", "init_args": {"width": 32, "depth": 1, "heads": 2, "order": "post"}},
        "objective": "NoObjective",
    }
    with pytest.raises(Misfit, match="no norm of the features"):
        Wav2Vec2().export(instance(section))
