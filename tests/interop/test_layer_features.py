"""Layers of an earlier run as what is clustered: HuBERT's second round."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import mmm, save, values, write

from mmm.checkpoint import load_checkpoint, newest
from mmm.core.errors import BadRecipe
from mmm.core.tokens import Sample, pack
from mmm.core.view import View
from mmm.interop.layer_features import LayerFeatures
from mmm.loading import load
from mmm.modalities.audio import Audio
from mmm.run import run

WIDTH, DEPTH = 16, 2


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
    return write(tmp_path_factory.mktemp("files"), ["audio", "text"], records=30)


@pytest.fixture(scope="module")
def base(files) -> dict[str, Any]:
    """A first round: clusters of MFCC; sound beside text, so that numbers of modalities differ from those of later runs."""
    recipe = copy.deepcopy(values({n: files[n] for n in ("text", "audio")}, 3))
    recipe["model"]["encoder"]["init_args"] |= {"depth": DEPTH, "dropout": 0.1}
    recipe["model"]["modality_vector"] = True
    return recipe


@pytest.fixture(scope="module")
def earlier(base, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("earlier")
    return run(save(folder / "first.yaml", base), run_dir=str(folder / "first"))


def second(base: dict[str, Any], earlier: Path, **arguments: Any) -> dict[str, Any]:
    """A second round, of sound alone."""
    recipe = copy.deepcopy(base)
    del recipe["model"]["modalities"]["text"]
    del recipe["data"]["files"]["text"]
    features = {"run": str(earlier), "layer": 1, "width": WIDTH} | arguments
    units = {"clusters": 5, "features": {"class_path": "LayerFeatures", "init_args": features}}
    recipe["model"]["objective"]["init_args"]["targets"] = {"audio": {"class_path": "AcousticUnits", "init_args": units}}
    return recipe


def pieces(training, number: int) -> list[Sample]:
    """Sounds of different lengths, as the earlier run reads them."""
    tokenizer = training.modalities["audio"].tokenizer
    noise = torch.Generator().manual_seed(0)
    waves = [torch.randn(1200 + 150 * i, generator=noise) * 0.1 for i in range(number)]
    return [Sample({"audio": tokenizer.tokenize((w, 4000))}, i) for i, w in enumerate(waves)]


@pytest.mark.parametrize("layer", [1, 2])
def test_features_are_the_layer_of_the_earlier_encoder(earlier, layer):
    """Each record alone, by the model itself; packed, by the features."""
    training = load(earlier)
    model = training.model
    features = LayerFeatures(str(earlier), layer, WIDTH)
    tokenizer = training.modalities["audio"].tokenizer
    features.bind("audio", tokenizer)
    samples = pieces(training, 4)
    packed = pack(samples, {"audio": tokenizer})
    feature_ND = features(packed, "audio")
    assert feature_ND.shape == (len(packed), WIDTH)
    assert feature_ND.dtype == torch.float32
    assert not feature_ND.requires_grad
    everything = {name: m.tokenizer for name, m in training.modalities.items()}
    start = 0
    for s in packed.layout.sample_S.tolist():
        alone = pack([samples[s]], everything)
        with torch.no_grad():
            view = View.of(alone, torch.zeros(len(alone), dtype=torch.bool))
            expected_ND = model.encode(view, want=(layer,)).layers[layer]
        found_ND = feature_ND[start : start + len(alone)]
        assert torch.allclose(found_ND, expected_ND, rtol=1e-4, atol=1e-5)
        start += len(alone)
    assert start == len(feature_ND)


def test_features_see_nothing_of_other_modalities(earlier):
    """A record of sound and text has the features of its sound."""
    training = load(earlier)
    tokenizers = {name: m.tokenizer for name, m in training.modalities.items()}
    features = LayerFeatures(str(earlier), 1, WIDTH)
    features.bind("audio", tokenizers["audio"])
    (sample,) = pieces(training, 1)
    both = Sample({**sample.pieces, "text": tokenizers["text"].tokenize("a stream of tokens")}, 0)
    alone, beside = pack([sample], tokenizers), pack([both], tokenizers)
    assert torch.allclose(features(alone, "audio"), features(beside, "audio"), rtol=1e-4, atol=1e-5)


def test_the_earlier_model_is_no_part_of_the_new_one(earlier):
    """It is not trained, not saved, and read when it is first asked for."""
    features = LayerFeatures("runs/not-there-yet", 1, WIDTH)
    assert features.width == WIDTH
    assert not isinstance(features, torch.nn.Module)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"run": "none"}, "no earlier run at 'none'; train it first"),
        ({"layer": 3}, r"LayerFeatures\(layer=3, width=16\): the encoder of .* has 2 blocks of width 16"),
        ({"layer": 0}, r"LayerFeatures\(layer=0, width=16\)"),
        ({"width": 32}, r"LayerFeatures\(layer=1, width=32\): the encoder of .* has 2 blocks of width 16"),
    ],
)
def test_what_the_earlier_run_is_not(earlier, arguments, said):
    features = LayerFeatures(**({"run": str(earlier), "layer": 1, "width": WIDTH} | arguments))
    training = load(earlier)
    tokenizer = training.modalities["audio"].tokenizer
    features.bind("audio", tokenizer)
    with pytest.raises(BadRecipe, match=said):
        features(pack(pieces(training, 1), {"audio": tokenizer}), "audio")


def test_a_modality_the_earlier_run_has_not(earlier):
    training = load(earlier)
    tokenizer = training.modalities["audio"].tokenizer
    features = LayerFeatures(str(earlier), 1, WIDTH)
    features.bind("speech", tokenizer)
    (sample,) = pieces(training, 1)
    tokens = pack([Sample({"speech": sample.pieces["audio"]}, 0)], {"speech": tokenizer})
    with pytest.raises(BadRecipe, match="has no modality 'speech'; it has text, audio"):
        features(tokens, "speech")


def test_another_front_end_is_refused(earlier):
    other = Audio(rate=4000, mels=10, hop_ms=20.0, max_seconds=0.6)
    training = load(earlier)
    other.tokenizer.mean_M, other.tokenizer.deviation_M = torch.zeros(10), torch.ones(10)
    features = LayerFeatures(str(earlier), 1, WIDTH)
    features.bind("audio", other.tokenizer)
    with pytest.raises(BadRecipe, match="give both the same front end and the same training data"):
        features(pack(pieces(training, 1), {"audio": other.tokenizer}), "audio")


def test_a_second_round_trains_and_keeps_its_clusters(base, earlier, tmp_path, monkeypatch):
    """The checkpoint holds the clusters; the earlier run is read again only to ask for truths."""
    folder = run(save(tmp_path / "second.yaml", second(base, earlier)), run_dir=str(tmp_path / "second"))
    checkpoint = load_checkpoint(newest(folder))
    address = "targets/audio/AcousticUnits"
    assert set(checkpoint["mmm_assets"][address]) == {"centroid_KD.npy", "mean_D.npy", "deviation_D.npy"}
    centroids = [v for k, v in checkpoint["state_dict"].items() if k.endswith("centroid_KD")]
    assert [tuple(c.shape) for c in centroids] == [(5, WIDTH)]
    assert float(centroids[0].abs().sum()) > 0
    size = sum(v.numel() for v in checkpoint["state_dict"].values())
    own = sum(p.numel() for p in load(folder).parameters())
    assert size == own + 5 * WIDTH + 2 * WIDTH, "the earlier model is not carried along"
    hidden_away = earlier.rename(earlier.with_name("away"))
    try:
        load(folder)  # the model is there without the earlier run
    finally:
        hidden_away.rename(earlier)


def test_units_are_the_nearest_clusters_of_the_layer(base, earlier, tmp_path):
    folder = run(save(tmp_path / "second.yaml", second(base, earlier, layer=2)), run_dir=str(tmp_path / "second"))
    training = load(folder)
    target = training.objective.targets()["audio/AcousticUnits"]
    tokens = pack(pieces(training, 3), {"audio": training.modalities["audio"].tokenizer})
    feature_ND = (target.features(tokens, "audio") - target.mean_D) / target.deviation_D
    nearest = (feature_ND[:, None] - target.centroid_KD[None]).square().sum(-1).argmin(1)
    assert torch.equal(target.units(tokens, "audio"), nearest)
    assert len(nearest.unique()) > 1


def test_a_second_round_without_its_first_is_one_line(base, tmp_path):
    done = mmm("run", save(tmp_path / "second.yaml", second(base, tmp_path / "none")), "--run_dir", tmp_path / "out")
    assert (done.status, len(done.errors)) == (2, 1), done.err
    assert f"no earlier run at '{tmp_path / 'none'}'; train it first" in done.err
    assert "Traceback" not in done.err
