"""AcousticUnits: clusters that find what is there, the same each time, kept by every road a checkpoint takes."""

from __future__ import annotations

import logging
import math
import pickle

import pytest
import torch
from torch import Tensor

from mmm.core.draw import Draw
from mmm.core.modality import Record, Tokenizer
from mmm.core.tokens import Piece, Sample, Tokens, pack
from mmm.modalities.audio import Audio
from mmm.targets.acoustic_units import MFCC, AcousticUnits, Features

RATE = 16000
TONES = (200.0, 500.0, 1000.0, 2000.0, 4000.0)


def melody(seed: int) -> Tensor:
    """Ten notes of 0.1 s, each one of ``TONES``, in a little noise."""
    draw = Draw(seed)
    notes = torch.tensor(TONES)[draw.integers(len(TONES), torch.arange(10))].repeat_interleave(RATE // 10)
    time = torch.arange(RATE) / RATE
    return 0.3 * torch.sin(2 * math.pi * notes * time) + 0.01 * (draw.stream("noise").uniform(torch.arange(RATE)) - 0.5)


def notes_of(seed: int) -> Tensor:
    return Draw(seed).integers(len(TONES), torch.arange(10))


RECORDS = [Record("memory", i, (melody(i), RATE), bytes([i])) for i in range(20)]


def bound(front_end: str = "logmel", **arguments) -> tuple[Audio, AcousticUnits]:
    audio = Audio(front_end=front_end)
    audio.fit(RECORDS)
    target = AcousticUnits(**arguments)
    target.bind("audio", audio.tokenizer)
    return audio, target


def packed(audio: Audio, *seeds: int) -> Tokens:
    samples = [Sample({"audio": audio.tokenizer.tokenize((melody(s), RATE))}, sample=s) for s in seeds]
    return pack(samples, {"audio": audio.tokenizer})


@pytest.mark.parametrize("front_end", ["logmel", "waveform"])
def test_units_tell_the_notes_apart(front_end):
    audio, target = bound(front_end, clusters=20)
    target.fit(RECORDS)
    units = torch.stack([target.units(packed(audio, s), "audio")[:45] for s in range(100, 110)])
    notes = torch.stack([notes_of(s).repeat_interleave(5)[:45] for s in range(100, 110)])
    steady = torch.arange(45) % 5 == 2  # the middle of a note, away from the changes
    table = torch.zeros(20, len(TONES))
    table.index_put_((units[:, steady].flatten(), notes[:, steady].flatten()), torch.ones(()), accumulate=True)
    assert table.max(1).values.sum() / table.sum() > 0.95
    share = torch.bincount(units.flatten(), minlength=20) / units.numel()
    assert -(share[share > 0] * share[share > 0].log()).sum() > math.log(8)


def test_the_same_each_time_and_by_seed():
    (_, one), (_, two), (_, three) = bound(clusters=10), bound(clusters=10), bound(clusters=10, seed=1)
    one.fit(RECORDS)
    two.fit(RECORDS[::-1])
    three.fit(RECORDS)
    assert torch.equal(one.centroid_KD, two.centroid_KD)
    assert not torch.equal(one.centroid_KD, three.centroid_KD)


def test_assets_and_state_dict_keep_the_clusters():
    audio, target = bound(clusters=10)
    target.fit(RECORDS)
    tokens = packed(audio, 50, 51)
    units = target.units(tokens, "audio")
    _, restored = bound(clusters=10)
    restored.restore(target.assets())
    _, loaded = bound(clusters=10)
    loaded.load_state_dict(target.state_dict())
    for other in (restored, loaded, pickle.loads(pickle.dumps(target))):
        assert torch.equal(other.units(tokens, "audio"), units)
    assert not any(p.requires_grad for p in target.parameters())
    _, other = bound(clusters=11)
    with pytest.raises(ValueError, match="11 clusters"):
        other.restore(target.assets())


def test_truth_is_the_nearest_centroid_of_the_asked_tokens():
    audio, target = bound(clusters=10)
    target.fit(RECORDS)
    tokens = packed(audio, 60, 61, 62)
    feature = (MFCC()(tokens, "audio") - target.mean_D) / target.deviation_D
    distance = (feature[:, None] - target.centroid_KD[None]).square().sum(-1)
    units = target.units(tokens, "audio")
    assert torch.equal(units, distance.argmin(1))
    answer_N = torch.tensor([0, 7, 60, 149])
    assert torch.equal(target.truth(tokens, answer_N), units[answer_N])
    alone = torch.cat([target.units(packed(audio, s), "audio") for s in (60, 61, 62)])
    assert torch.equal(units, alone)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(target.units(tokens, "audio"), units)


def test_mfcc_stays_inside_a_record():
    for front_end in ("logmel", "waveform"):
        audio, _ = bound(front_end)
        together = MFCC()(packed(audio, 1, 2), "audio")
        alone = torch.cat([MFCC()(packed(audio, s), "audio") for s in (1, 2)])
        assert together.shape[1] == 39
        assert (together - alone).abs().max() < 1e-4


def test_both_front_ends_have_the_same_mfcc():
    """Away from the ends, and up to the loudness (the first coefficient), which ``waveform`` normalises away."""
    (logmel, _), (waveform, _) = bound("logmel"), bound("waveform")
    one, two = MFCC()(packed(logmel, 5), "audio"), MFCC()(packed(waveform, 5), "audio")
    assert torch.allclose(one[3:45, 1:], two[3:45, 1:], atol=0.05)


def test_loss_and_the_guess_without_context():
    target = AcousticUnits(clusters=3)
    output, truth = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, 1.0]]).bfloat16(), torch.tensor([0, 1])
    loss = target.loss(output, truth)
    assert loss.dtype == torch.float32
    assert torch.allclose(loss, -output.float().log_softmax(-1)[torch.arange(2), truth])
    unigram = target.context_free([torch.tensor([0, 0, 0]), torch.tensor([1])])
    assert torch.allclose(unigram.loss(torch.tensor([0, 1, 2])).exp().float(), torch.tensor([7 / 4, 7 / 2, 7.0]))


class Rows(Features):
    """The content rows themselves."""

    width = 160

    def __call__(self, tokens, name):
        return tokens.content[name]


def test_other_features():
    audio, target = bound(clusters=8, features=Rows())
    target.fit(RECORDS)
    assert target.centroid_KD.shape == (8, 160)
    assert len(target.units(packed(audio, 3), "audio").unique()) > 3


def test_what_is_left_out_is_said(tmp_path, caplog):
    _, target = bound(clusters=5, fit_records=8)
    gone = Record("gone.wav", None, tmp_path / "gone.wav", min(RECORDS, key=lambda r: r.sample).key)  # so it is among the 8
    with caplog.at_level(logging.WARNING, logger="mmm"):
        target.fit([*RECORDS, gone])
    assert "fit_records=8 of 21" in caplog.text
    assert "gone.wav" in caplog.text


def test_errors():
    audio, target = bound(clusters=10)
    with pytest.raises(ValueError, match="no clusters yet"):
        target.units(packed(audio, 0), "audio")
    _, many = bound(clusters=500)
    with pytest.raises(ValueError, match="clusters=500"):
        many.fit(RECORDS[:2])
    with pytest.raises(ValueError, match="clusters=1"):
        AcousticUnits(clusters=1)
    with pytest.raises(ValueError, match="no mel energies"):
        AcousticUnits().bind("text", Silent())


class Silent(Tokenizer):
    """A modality without sound."""

    def tokenize(self, raw, draw=None):
        return Piece(torch.zeros(1), torch.zeros(1))

    def detokenize(self, content_R):
        return None

    def empty(self):
        return torch.zeros(0)

    def records(self, path):
        return iter(())

    def length(self, record):
        return 1
