"""HuBERT in and out: features and gradients are those of the library, each record alone there and ragged here."""

import json

import numpy as np
import pytest
import soundfile
import torch
import torchaudio.functional as AF
from foreign_images import back, close
from foreign_sounds import RATE, SMALL, alone, gradients_agree, instance, masked, records, saved, waves
from transformers import AutoModel, BertConfig, BertModel, HubertConfig, HubertForCTC, HubertModel, Wav2Vec2FeatureExtractor

import mmm
from mmm.interop import _waveform_encoder
from mmm.interop.architecture import Misfit
from mmm.interop.hubert import Hubert
from mmm.interop.links import same

LARGE = {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True}
NORMALISED = Wav2Vec2FeatureExtractor(do_normalize=True)

SWITCHES = [
    {},
    LARGE,
    {"feat_extract_norm": "layer"},
    {"conv_bias": True},
    {"do_stable_layer_norm": True, "feat_proj_layer_norm": False},
    {"layer_norm_eps": 1e-2},
    {"num_conv_pos_embeddings": 7, "num_conv_pos_embedding_groups": 2},
    {"hidden_act": "relu"},
    {"hidden_act": "gelu_new"},
    {"conv_dim": [16] * 3, "conv_kernel": [10, 3, 8], "conv_stride": [5, 3, 8]},
    {"conv_dim": [16] * 2, "conv_kernel": [9, 5], "conv_stride": [9, 3]},
    {"mask_time_prob": 0.0},
]


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_features_are_the_library_s(tmp_path, switch):
    theirs = saved(HubertModel(HubertConfig(**SMALL | switch)), tmp_path)
    ours, given = mmm.load(tmp_path), waves()
    with torch.no_grad():
        want = alone(theirs, NORMALISED, given)
        close(ours.hidden(records(given)), want)
        close(ours.hidden(records(given[:1])), want[:1])
    with pytest.raises(ValueError, match="has no head"):
        ours.logits(records(given))


def test_a_source_without_a_processor_takes_samples_as_they_are(tmp_path, caplog):
    given = waves()
    theirs = saved(HubertModel(HubertConfig(**SMALL)), tmp_path, extractor=None)
    with torch.no_grad():
        want = [theirs(w[None]).last_hidden_state[0] for w in given]
        close(mmm.load(tmp_path).hidden(records(given)), want)
        assert "taken as it is given" in caplog.text
        Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(tmp_path)
        close(mmm.load(tmp_path).hidden(records(given)), want)


def test_processors_nested_in_one_file_and_other_rates(tmp_path):
    theirs, given = saved(HubertModel(HubertConfig(**SMALL)), tmp_path, extractor=None), waves()
    nested = Wav2Vec2FeatureExtractor(sampling_rate=8000).to_dict()
    (tmp_path / "processor_config.json").write_text(json.dumps({"feature_extractor": nested}))
    ours = mmm.load(tmp_path)
    with torch.no_grad():
        close(ours.hidden(records(given, 8000)), alone(theirs, NORMALISED, given))


def test_ways_to_give_a_record(tmp_path):
    theirs = saved(HubertModel(HubertConfig(**SMALL)), tmp_path)
    ours, (wave,) = mmm.load(tmp_path), waves(6000)
    soundfile.write(tmp_path / "a.wav", wave.numpy(), RATE, subtype="FLOAT")
    forms = [(wave, RATE), (wave[None], RATE), (wave.numpy(), RATE), (wave.numpy().astype(np.float64)[None], RATE)]
    forms += [str(tmp_path / "a.wav"), tmp_path / "a.wav"]
    with torch.no_grad():
        close(ours.hidden(forms), alone(theirs, NORMALISED, [wave] * len(forms)))
        close(ours.hidden([(wave, 8000)]), alone(theirs, NORMALISED, [AF.resample(wave, 8000, RATE)]))
    for wrong in [(torch.stack([wave, wave]), RATE), (wave,), wave, (wave[:300], RATE), tmp_path / "config.json"]:
        with pytest.raises(ValueError, match="no modality can read it"):
            ours.hidden([wrong])


def test_a_record_that_would_be_cropped_is_refused(tmp_path):
    saved(HubertModel(HubertConfig(**SMALL)), tmp_path)
    ours = mmm.load(tmp_path)
    tokenizer = ours.modalities["audio"].tokenizer
    assert tokenizer.max_seconds == 600
    tokenizer.max_seconds = 0.25
    with pytest.raises(ValueError, match="longer than this model reads"):
        ours.hidden(records(waves(4001)))


@pytest.mark.parametrize("switch", [{}, LARGE], ids=["base", "large"])
def test_gradients_with_masks(tmp_path, switch):
    """Of every parameter: convolutions, their norms, positions, mask vector, encoder."""
    saved(HubertModel(HubertConfig(**SMALL | switch)), tmp_path)
    given = waves()

    def hidden(n):
        return torch.arange(n) % 5 < 2

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
    assert float(ours.modalities["audio"].mask.grad.abs().sum()) > 0


@pytest.mark.parametrize(
    ("switch", "said"),
    [
        ({"conv_pos_batch_norm": True}, "conv_pos_batch_norm True"),
        ({"adapter_attn_dim": 4, "do_stable_layer_norm": True}, "adapter_attn_dim 4"),
        ({"feat_extract_activation": "relu"}, "feat_extract_activation 'relu'"),
        ({"hidden_act": "silu"}, "hidden_act 'silu'"),
        ({"conv_dim": [16, 16, 8, 16, 16, 16, 16]}, "conv_dim"),
        ({"conv_stride": [12, 2, 2, 2, 2, 2, 2]}, "conv_stride"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_switch_without_a_counterpart_is_named(tmp_path, switch, said):
    saved(HubertModel(HubertConfig(**SMALL | switch)), tmp_path)
    with pytest.raises(ValueError, match=f"{said}.* has no counterpart here"):
        mmm.load(tmp_path)


def test_another_feature_extractor_is_named(tmp_path):
    saved(HubertModel(HubertConfig(**SMALL)), tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"feature_extractor_type": "WhisperFeatureExtractor"}')
    with pytest.raises(ValueError, match="feature_extractor_type 'WhisperFeatureExtractor'"):
        mmm.load(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"feature_extractor')
    with pytest.raises(ValueError, match=r"preprocessor_config\.json cannot be read"):
        mmm.load(tmp_path)


def test_a_head_for_letters_stays_behind(tmp_path):
    theirs, given = saved(HubertForCTC(HubertConfig(**SMALL)), tmp_path), waves()
    with torch.no_grad():
        close(mmm.load(tmp_path).hidden(records(given)), alone(theirs.hubert, NORMALISED, given))


def test_a_wrong_map_is_refused(tmp_path, monkeypatch):
    saved(HubertModel(HubertConfig(**SMALL)), tmp_path)
    right = Hubert.links
    pair = ["encoder.blocks.0.norm1.bias", "encoder.blocks.0.norm2.bias"]

    def swapped(self, config, names):
        links = right(self, config, names)
        one, two = (i for i, link in enumerate(links) if link.ours[0] in pair)
        links[one], links[two] = same(links[one].theirs[0], pair[1]), same(links[two].theirs[0], pair[0])
        return links

    monkeypatch.setattr(Hubert, "links", swapped)
    with pytest.raises(ValueError, match="more than 1e-04: the import is refused"):
        mmm.load(tmp_path)


def test_what_is_no_model(tmp_path):
    theirs = saved(HubertModel(HubertConfig(**SMALL)), tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-500])
    with pytest.raises(ValueError, match="cannot be read safely"):
        mmm.load(tmp_path / "cut")

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    theirs.config.save_pretrained(tmp_path / "code")
    torch.save({"x": Evil()}, tmp_path / "code" / "pytorch_model.bin")
    with pytest.raises(ValueError, match="cannot be read safely"):
        mmm.load(tmp_path / "code")
    assert not (tmp_path / "executed").exists()
    small = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9)
    BertModel(small).save_pretrained(tmp_path / "other")
    theirs.config.save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="do not belong together"):
        mmm.load(tmp_path / "other")


@pytest.mark.parametrize("switch", [{}, LARGE, {"feat_proj_layer_norm": False, "hidden_act": "relu"}], ids=str)
def test_out_and_back(tmp_path, switch):
    theirs, given = saved(HubertModel(HubertConfig(**SMALL | switch)), tmp_path), waves()
    ours = mmm.load(tmp_path)
    made = back(ours, Hubert())
    made.save_pretrained(tmp_path / "out")
    Hubert().save_files(ours, tmp_path / "out")
    again, extractor = (
        AutoModel.from_pretrained(tmp_path / "out").eval(),
        Wav2Vec2FeatureExtractor.from_pretrained(tmp_path / "out"),
    )
    with torch.no_grad():
        close(alone(again, extractor, given), alone(theirs, NORMALISED, given))
    kept = again.state_dict()
    assert kept.keys() == theirs.state_dict().keys()
    assert all(torch.equal(kept[name], was) for name, was in theirs.state_dict().items())


def recipe(encoder: dict | None = None, **arguments):
    """As recipes/audio/hubert.yaml, small."""
    audio = {"front_end": "waveform", "positions": "conv", "norm": True, "conv_norm": "group", "conv_width": 16} | arguments
    transformer = {"width": 32, "depth": 1, "heads": 2, "order": "post", "dropout": 0.1} | (encoder or {})
    return {
        "modalities": {"audio": {"class_path": "Audio", "init_args": audio}},
        "encoder": {"class_path": "Transformer", "init_args": transformer},
        "objective": "NoObjective",
    }


@pytest.mark.parametrize(
    "section",
    [recipe(), recipe({"order": "pre"}, norm=False, conv_norm="layer", standardise=None), recipe(rate=8000, conv_bias=True)],
    ids=["base", "large", "8 kHz"],
)
def test_a_model_of_ours_goes_out(tmp_path, section):
    ours, given = instance(section), waves()
    back(ours, Hubert()).save_pretrained(tmp_path)
    Hubert().save_files(ours, tmp_path)
    theirs, extractor = AutoModel.from_pretrained(tmp_path).eval(), Wav2Vec2FeatureExtractor.from_pretrained(tmp_path)
    rate = ours.modalities["audio"].tokenizer.rate
    with torch.no_grad():
        inputs = [extractor(w.numpy(), sampling_rate=rate, return_tensors="pt").input_values for w in given]
        close(ours.hidden(records(given, rate)), [theirs(x).last_hidden_state[0] for x in inputs])
        close(mmm.load(tmp_path).hidden(records(given, rate)), ours.hidden(records(given, rate)))


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (recipe(front_end="logmel"), "a log-mel front end"),
        (recipe(positions="sinusoidal"), "positions 'sinusoidal'"),
        (recipe(norm=False), "a norm of the embedding False with norms post"),
        (recipe({"order": "pre"}), "a norm of the embedding True with norms pre"),
        (recipe({"order": "pre", "last_norm": False}, norm=False), "no last norm"),
        (recipe({"eps": 1e-3}), "eps 1e-05 in the modality and 0.001 in the encoder"),
        (recipe({"rotary": 1}), "rotary positions"),
        (recipe({"activation": "swiglu"}), "activation swiglu"),
        (recipe(neighbours={"kernel": 19, "depth": 5, "norm": "layer"}), "positions from Neighbours"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_does_not_fit_is_said(section, said):
    training = instance(section, logmel=json.dumps({"mean": [0.0] * 80, "deviation": [1.0] * 80}).encode())
    with pytest.raises(Misfit, match=said):
        Hubert().export(training)


def test_short_windows_have_pictures_of_fewer_bands():
    assert _waveform_encoder._bands(16000, [5, 2, 2, 2, 2, 2, 2]) == 80
    assert _waveform_encoder._bands(16000, [4, 4, 4]) == 20
    assert _waveform_encoder._bands(16000, [2, 2]) < 5
