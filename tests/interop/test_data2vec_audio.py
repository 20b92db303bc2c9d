"""data2vec for sound in and out: features and gradients are those of the library, each record alone there and ragged here."""

import pytest
import torch
from foreign_images import back, close
from foreign_sounds import RATE, SMALL, alone, gradients_agree, masked, records, saved, waves
from transformers import AutoModel, Data2VecAudioConfig, Data2VecAudioModel, HubertConfig, HubertModel, Wav2Vec2FeatureExtractor

import mmm
from mmm.interop.architecture import Misfit
from mmm.interop.data2vec_audio import Data2VecAudio
from mmm.interop.hubert import Hubert

NORMALISED = Wav2Vec2FeatureExtractor(do_normalize=True)
OWN = {k: v for k, v in SMALL.items() if k != "num_conv_pos_embeddings"}
SWITCHES = [
    {},
    {"conv_bias": True, "layer_norm_eps": 1e-3},
    {"num_conv_pos_embeddings": 1},
    {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 8, "num_conv_pos_embedding_groups": 2},
]


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_in_out_and_back(tmp_path, switch):
    theirs = saved(Data2VecAudioModel(Data2VecAudioConfig(**OWN | switch)), tmp_path)
    ours, given = mmm.load(tmp_path), waves()
    with torch.no_grad():
        want = alone(theirs, NORMALISED, given)
        close(ours.hidden(records(given)), want)
        close(ours.hidden(records(given[:1])), want[:1])
    back(ours, Data2VecAudio()).save_pretrained(tmp_path / "out")
    Data2VecAudio().save_files(ours, tmp_path / "out")
    again, extractor = (
        AutoModel.from_pretrained(tmp_path / "out").eval(),
        Wav2Vec2FeatureExtractor.from_pretrained(tmp_path / "out"),
    )
    with torch.no_grad():
        close(alone(again, extractor, given), want)
    kept, was = again.state_dict(), theirs.state_dict()
    assert kept.keys() == was.keys()
    assert all(torch.equal(kept[name], was[name]) for name in was)


def test_gradients_with_masks(tmp_path):
    saved(Data2VecAudioModel(Data2VecAudioConfig(**OWN)), tmp_path)
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


def test_a_switch_without_a_counterpart_is_named(tmp_path):
    saved(Data2VecAudioModel(Data2VecAudioConfig(**OWN, add_adapter=True)), tmp_path)
    with pytest.raises(ValueError, match="add_adapter True has no counterpart here"):
        mmm.load(tmp_path)


def test_each_keeps_to_its_own_positions(tmp_path):
    saved(HubertModel(HubertConfig(**SMALL)), tmp_path / "hubert")
    saved(Data2VecAudioModel(Data2VecAudioConfig(**OWN)), tmp_path / "data2vec")
    with pytest.raises(Misfit, match="positions from Neighbours"):
        Data2VecAudio().export(mmm.load(tmp_path / "hubert"))
    with pytest.raises(Misfit, match="positions from Neighbours"):
        Hubert().export(mmm.load(tmp_path / "data2vec"))
