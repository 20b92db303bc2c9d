"""Spectrogram: patches and their places, cropping and filling up, arrays, statistics, pictures."""

import logging
import pickle

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from mmm.core.draw import Draw
from mmm.core.errors import BadRecipe, BadRecord
from mmm.core.modality import Record
from mmm.core.objective import Answer
from mmm.core.tokens import Sample, Tokens, pack
from mmm.modalities.spectrogram import Spectrogram
from mmm.nn.spectral import KaldiMel
from mmm.targets.pixels import Pixels

RATE = 16000
PLAIN = {"mels": 12, "frames": 40, "patch": (4, 5), "mean": -6.0, "std": 4.0}


def noise(seconds: float, rate: int = RATE, seed: int = 0) -> Tensor:
    return 0.2 * (Draw(seed).uniform(torch.arange(round(seconds * rate))) - 0.5)


def packed(modality: Spectrogram, *raws) -> Tokens:
    samples = [Sample({"sound": modality.tokenizer.tokenize(raw)}, i) for i, raw in enumerate(raws)]
    return pack(samples, {"sound": modality.tokenizer})


def test_rows_are_patches_of_the_normalised_energies():
    tokenizer = Spectrogram(**PLAIN, stride=(3, 5), cls=True, registers=1).tokenizer
    wave = noise(0.32)
    energy = (KaldiMel(RATE, 12)(wave) + 6) / 4
    assert energy.shape == (30, 12)
    piece = tokenizer.tokenize((wave, RATE))
    assert piece.content.shape == (2 + 3 * 6, 20)
    assert piece.positions[:2].tolist() == [[-1, -1]] * 2
    assert piece.maskable.tolist() == [False] * 2 + [True] * 18
    assert not piece.cut
    for row, (band, step) in zip(piece.content[2:], piece.positions[2:].tolist(), strict=True):
        want = energy[step * 5 : step * 5 + 5, band * 3 : band * 3 + 4].T
        assert torch.equal(row.view(4, 5), want)
    assert piece.positions[2:].tolist() == [[b, s] for b in range(3) for s in range(6)]


@pytest.mark.parametrize("stride", [None, (3, 4), (2, 1), (5, 7)])
def test_there_and_back(stride):
    tokenizer = Spectrogram(**PLAIN, stride=stride, cls=True).tokenizer
    wave = noise(0.4)
    energy = KaldiMel(RATE, 12)(wave)
    back = tokenizer.detokenize(tokenizer.tokenize((wave, RATE)).content)
    covered = tokenizer.laid(torch.ones(len(tokenizer.tokenize((wave, RATE))) - 1, 20)) > 0
    assert torch.allclose(back[covered], energy[: len(back)][covered], atol=1e-4)
    assert (back[~covered] == -6).all()


def test_short_records_are_filled_up_or_short():
    wave = noise(0.2)
    short, full = (Spectrogram(**PLAIN, pad=pad).tokenizer.tokenize((wave, RATE)) for pad in (False, True))
    assert len(short) == 3 * 3  # 18 frames
    assert len(full) == 3 * 8
    place = {tuple(p): row for p, row in zip(full.positions.tolist(), full.content, strict=True)}
    assert all(torch.equal(place[tuple(p)], row) for p, row in zip(short.positions.tolist(), short.content, strict=True))
    assert (place[0, 7] == 6 / 4).all()  # an energy of 0, normalised


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_long_records_are_cropped_by_their_draw(caplog, tmp_path, rate):
    tokenizer = Spectrogram(**PLAIN).tokenizer
    raw = (noise(1.0, rate), rate)
    with caplog.at_level(logging.WARNING, "mmm"):
        crops = [tokenizer.tokenize(raw, Draw(seed)) for seed in range(4)]
    assert caplog.text.count("cropped to frames=40") == 1
    assert all(c.cut and len(c) == 3 * 8 for c in crops)
    assert len({float(c.content[0, 0]) for c in crops}) == 4
    assert torch.equal(crops[1].content, tokenizer.tokenize(raw, Draw(1)).content)
    beginning = KaldiMel(RATE, 12)(tokenizer.waveform((raw[0][: rate // 2], rate), None)[0])[:40]
    assert torch.allclose(tokenizer.detokenize(tokenizer.tokenize(raw).content), beginning, atol=1e-3)
    path = tmp_path / "a.flac"
    soundfile.write(path, raw[0].numpy(), rate)
    (record,) = tokenizer.records(path)
    assert tokenizer.length(record) == len(tokenizer.tokenize(record.raw)) == 24


def test_energies_are_a_record_too():
    tokenizer = Spectrogram(**PLAIN).tokenizer
    energy = KaldiMel(RATE, 12)(noise(0.32))
    for raw in (energy, energy.numpy(), energy.double()):
        assert torch.equal(tokenizer.tokenize(raw).content, tokenizer.tokenize((noise(0.32), RATE)).content)
    long = torch.cat([energy, energy])
    assert tokenizer.length(Record("memory", 0, long, b"")) == len(tokenizer.tokenize(long)) == 24
    assert tokenizer.tokenize(long).cut
    assert not torch.equal(tokenizer.tokenize(long, Draw(3)).content, tokenizer.tokenize(long).content)
    for wrong in (energy.T, energy[:4], energy * torch.nan, np.zeros((9, 12), np.int32), energy[None]):
        with pytest.raises(BadRecord, match="a spectrogram in memory"):
            tokenizer.tokenize(wrong)


@pytest.mark.parametrize("raw", [(noise(0.01), RATE), (torch.zeros(2, 9000), RATE), "there/is/none.wav", 7, (noise(0.5),)])
def test_a_bad_record_is_refused(raw):
    with pytest.raises(BadRecord):
        Spectrogram(**PLAIN).tokenizer.tokenize(raw)


def test_fit_takes_one_mean_and_deviation(caplog):
    records = [Record("memory", i, (noise(0.3, seed=i), RATE), bytes([i])) for i in range(3)]
    bad = Record("gone.wav", None, "gone.wav", b"gone")
    modality = Spectrogram(mels=12, frames=40, patch=(4, 5))
    with pytest.raises(ValueError, match="fit"):
        modality.tokenizer.tokenize(records[0].raw)
    with caplog.at_level(logging.WARNING, "mmm"):
        modality.fit([*records, bad])
    assert "gone.wav" in caplog.text
    energies = torch.cat([KaldiMel(RATE, 12)(r.raw[0]) for r in records])
    assert modality.tokenizer.mean == pytest.approx(float(energies.mean()), abs=1e-4)
    assert modality.tokenizer.std == pytest.approx(float(energies.std()), rel=1e-2)
    again = Spectrogram(mels=12, frames=40, patch=(4, 5))
    again.restore(modality.assets())
    copy = pickle.loads(pickle.dumps(again.tokenizer))
    assert torch.equal(copy.tokenize(records[0].raw).content, modality.tokenizer.tokenize(records[0].raw).content)
    with pytest.raises(ValueError, match="no record"):
        Spectrogram().fit([bad])
    given = Spectrogram(**PLAIN)
    given.fit([])
    assert given.assets() == {}


@pytest.mark.parametrize(
    "arguments",
    [
        {"patch": (16, 2000)},
        {"patch": (200, 2)},
        {"stride": (0, 1)},
        {"registers": -1},
        {"mean": 1.0},
        {"mean": 0.0, "std": 0.0},
    ],
)
def test_bad_arguments(arguments):
    with pytest.raises(BadRecipe, match="Spectrogram"):
        Spectrogram(**arguments)


def test_bad_numbers_of_the_filterbank():
    with pytest.raises(ValueError, match="4 bands or more"):
        KaldiMel(mels=3)


def answer(target: Pixels, tokens: Tokens, places: Tensor, wrong: float = 0.0) -> Answer:
    target.bind("sound", tokens.tokenizers["sound"])
    truth, zero = target.truth(tokens, places), torch.zeros(len(places))
    return Answer("sound", target, "head", places, truth + wrong, truth, zero, zero + 1)


@pytest.mark.parametrize("stride", [None, (2, 3)])
@pytest.mark.parametrize("normalise", [False, True])
def test_pictures(stride, normalise):
    modality = Spectrogram(**PLAIN, stride=stride, cls=True)
    tokens = packed(modality, (noise(0.42), RATE))
    layout = tokens.layout
    hidden_N = layout.maskable_T & (layout.position_TC[:, -1] >= 3) & (layout.position_TC[:, -1] < 6)
    places = hidden_N.nonzero()[:, 0]
    original, masked, filled = modality.pictures(tokens, "sound", hidden_N, [answer(Pixels(normalise), tokens, places)])
    assert original.pixels.shape == (12, 40 if stride is None else 38, 3)
    grey = (masked.pixels == 0.5).all(-1)
    first, after = (15, 30) if stride is None else (11, 18)  # overlapping ones show their hidden neighbours' edges
    assert grey[:, first:after].all()
    assert not grey[:, :first].any()
    assert not grey[:, after:].any()
    assert (filled.pixels - original.pixels).abs().max() < 0.02
    wrong = modality.pictures(tokens, "sound", hidden_N, [answer(Pixels(normalise), tokens, places, -1.5)])[2]
    assert (wrong.pixels - original.pixels)[:, first:after].abs().max() > 0.1
