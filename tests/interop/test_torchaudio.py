"""Bundles of torchaudio: small models in the place of large ones, loaded by the bundle's own code from $TORCH_HOME."""

import pytest
import torch
import torchaudio.pipelines
from foreign_images import back, close, noisy
from foreign_sounds import RATE, gradients_agree, masked, records, waves
from torchaudio.models import wav2vec2_model
from torchaudio.pipelines import Wav2Vec2Bundle
from torchaudio.pipelines._wav2vec2.impl import Wav2Vec2ASRBundle

import mmm
from mmm.interop.hubert import Hubert
from mmm.sources import open_source

NAME = "TINY_BASE"


def parameters(large: bool = False, letters: int | None = None, bias: bool = False) -> dict:
    return {
        "extractor_mode": "layer_norm" if large else "group_norm",
        "extractor_conv_layer_config": [(16, 10, 5), (16, 3, 2), (16, 3, 2), (16, 3, 2), (16, 3, 2), (16, 2, 2), (16, 2, 2)],
        "extractor_conv_bias": bias,
        "encoder_embed_dim": 24,
        "encoder_projection_dropout": 0.1,
        "encoder_pos_conv_kernel": 16,
        "encoder_pos_conv_groups": 4,
        "encoder_num_layers": 2,
        "encoder_num_heads": 3,
        "encoder_attention_dropout": 0.1,
        "encoder_ff_interm_features": 40,
        "encoder_ff_interm_dropout": 0.0,
        "encoder_dropout": 0.1,
        "encoder_layer_norm_first": large,
        "encoder_layer_drop": 0.05,
        "aux_num_out": letters,
    }


@pytest.fixture
def bundle(tmp_path, monkeypatch):
    """Puts a bundle of a small model under ``NAME`` and its weights where they are looked for."""
    checkpoints = tmp_path / "hub" / "checkpoints"
    checkpoints.mkdir(parents=True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def make(normalise: bool = False, letters: int | None = None, **switches) -> Wav2Vec2Bundle:
        weights = noisy(wav2vec2_model(**parameters(letters=letters and letters + 3, **switches))).state_dict()
        torch.save(weights, checkpoints / "tiny.pth")
        given = ("tiny.pth", parameters(letters=letters, **switches), RATE, normalise, "Wav2Vec2")
        made = Wav2Vec2ASRBundle(*given, _labels=tuple("ABC")) if letters else Wav2Vec2Bundle(*given)
        monkeypatch.setattr(torchaudio.pipelines, NAME, made, raising=False)
        return made

    make.file = checkpoints / "tiny.pth"
    return make


def last(model, wave):
    """The library's own answer: its last layer, and where norms come first the norm behind it."""
    layers, _ = model.extract_features(wave[None])
    inner = getattr(model, "model", model).encoder.transformer
    return layers[-1][0] if inner.layer_norm_first else inner.layer_norm(layers[-1][0])


@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"large": True, "normalise": True},
        {"large": True, "normalise": True, "bias": True},
        {"normalise": True, "bias": True},
    ],
    ids=str,
)
def test_features_are_the_library_s(bundle, switches):
    theirs, given = bundle(**switches).get_model(), waves(loudness=0.003)
    ours = mmm.load(NAME)
    with torch.no_grad():
        want = [last(theirs, wave) for wave in given]
        close([theirs(wave[None])[0][0] for wave in given], want)
        close(ours.hidden(records(given)), want)
        close(ours.hidden(records(given[:1])), want[:1])
    with pytest.raises(ValueError, match="has no head"):
        ours.logits(records(given))


def test_a_head_for_letters_stays_behind(bundle):
    theirs, given = bundle(letters=4, large=True, normalise=True).get_model(), waves()
    source = open_source(NAME)
    assert source.notes == ["not used: aux.bias, aux.weight"]
    with torch.no_grad():
        ours = source.loaded().hidden(records(given))
        close([theirs.model.aux(x) for x in ours], [theirs(wave[None])[0][0] for wave in given])


def test_gradients(bundle):
    bundle(large=True)
    given, ours = waves(3000, 5000), mmm.load(NAME)

    def loss(model):
        return sum(last(model, wave).square().sum() for wave in given) / 100

    def own(m):
        return sum(x.square().sum() for x in masked(m, records(given), lambda n: torch.zeros(n, dtype=torch.bool))) / 100

    compared = gradients_agree(ours, NAME, loss, own)
    assert dict(ours.model.named_parameters()).keys() - compared == {"modalities.audio.mask"}


def test_out_to_transformers(bundle, tmp_path, caplog):
    bundle(large=True, normalise=True)
    ours, given = mmm.load(NAME), waves()
    assert "TINY_BASE has no mask vector" in caplog.text
    theirs = back(ours, Hubert())
    Hubert().save_files(ours, tmp_path)
    assert "this model 1e-05" in caplog.text
    with torch.no_grad():
        inputs = [ours.piece((wave, RATE))[1].content for wave in given]
        close(ours.hidden(records(given)), [theirs(x[None]).last_hidden_state[0] for x in inputs])


def test_a_wrong_map_is_refused(bundle, monkeypatch):
    bundle()
    from mmm.interop.from_torchaudio import Torchaudio

    right = Torchaudio.open

    def other(self, source):
        original = right(self, source)
        original.config["do_stable_layer_norm"] = True
        return original

    monkeypatch.setattr(Torchaudio, "open", other)
    with pytest.raises(ValueError, match="more than 1e-04: the import is refused"):
        mmm.load(NAME)


def test_what_cannot_be_loaded_is_one_line(bundle, tmp_path, monkeypatch):
    for name in ("WAVLM_BASE", "WAVLM_LARGE"):
        with pytest.raises(ValueError, match=f"{name}: WavLM has gated relative positions"):
            mmm.load(name)
    with pytest.raises(ValueError, match="Did you mean 'HUBERT_BASE'"):
        mmm.load("HUBERT_BSE")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(ValueError, match=r"HUBERT_BASE: its weights cannot be had .*hubert_fairseq_base_ls960\.pth") as error:
        mmm.load("HUBERT_BASE")
    assert "\n" not in str(error.value)

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    bundle()
    whole = bundle.file.read_bytes()
    torch.save({"x": Evil()}, bundle.file)
    with pytest.raises(ValueError, match="cannot be had or read"):
        mmm.load(NAME)
    assert not (tmp_path / "executed").exists()
    bundle.file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot be had or read"):
        mmm.load(NAME)
