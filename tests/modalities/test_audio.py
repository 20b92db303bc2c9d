"""Audio: reading, cropping, spectra, both front ends, pictures. Oracles: numpy's FFT and transformers' HuBERT."""

from __future__ import annotations

import logging
import math
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from mmm.core.draw import Draw
from mmm.core.errors import BadRecipe, BadRecord
from mmm.core.modality import Record
from mmm.core.objective import Answer
from mmm.core.picture import Marked, Raster
from mmm.core.tokens import Sample, Tokens, pack
from mmm.modalities.audio import Audio, AudioTokenizer
from mmm.nn.spectral import DECIBEL, LogMel, mfcc
from mmm.nn.waveform import Neighbours

RATE = 16000
FRONT_ENDS = ["logmel", "waveform"]


def tone(seconds: float, rate: int = RATE, hertz: float = 440.0, seed: int = 0) -> Tensor:
    """A tone in noise."""
    time = torch.arange(int(seconds * rate)) / rate
    noise = Draw(seed).uniform(torch.arange(len(time))) - 0.5
    return 0.3 * torch.sin(2 * math.pi * hertz * time) + 0.1 * noise


def save(path: Path, wave: Tensor | np.ndarray, rate: int = RATE, **options) -> Path:
    soundfile.write(path, np.asarray(wave), rate, **options)
    return path


def fitted(front_end: str, **arguments) -> Audio:
    audio = Audio(front_end=front_end, **arguments)
    if front_end == "logmel":
        mels = audio.tokenizer.log_mel.mels
        audio.tokenizer.mean_M, audio.tokenizer.deviation_M = torch.linspace(-4, -9, mels), torch.linspace(3, 4, mels)
    return audio


def packed(audio: Audio, *waves: Tensor) -> Tokens:
    samples = [Sample({"audio": audio.tokenizer.tokenize((w, RATE))}, sample=i) for i, w in enumerate(waves)]
    return pack(samples, {"audio": audio.tokenizer})


def embedded(audio: Audio, tokens: Tokens, hidden_N: Tensor | None = None) -> Tensor:
    part = tokens.part("audio")
    hidden_N = torch.zeros(len(part.layout_N), dtype=torch.bool) if hidden_N is None else hidden_N
    return audio.embed(part.content_R, part.layout_N, hidden_N)


# ---- spectra


def test_log_mel_is_the_energy_of_centred_windows():
    import torchaudio.functional as AF

    wave, log_mel = tone(0.2), LogMel(mels=40)
    energy = log_mel(wave)
    assert energy.shape == (20, 40)
    i, hop, window = 7, 160, 400
    start = i * hop + hop // 2 - window // 2
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    power = np.abs(np.fft.rfft(wave[start : start + window].double().numpy() * hann)) ** 2
    bank = AF.melscale_fbanks(201, 0.0, 8000.0, 40, RATE, norm="slaney", mel_scale="slaney").double().numpy()
    np.testing.assert_allclose(energy[i].numpy(), np.log(power @ bank), rtol=1e-4)


def test_log_mel_conventions():
    log_mel = LogMel()
    for samples in (0, 159, 160, 161, 1600, 4321):
        assert log_mel(torch.ones(samples)).shape == (samples // 160, 80)
    wave = tone(0.5)
    louder = (log_mel(10 * wave) - log_mel(wave)) * DECIBEL
    assert torch.allclose(louder, torch.full_like(louder, 20.0), atol=1e-2)
    assert torch.allclose(log_mel(torch.zeros(1600)), torch.full((10, 80), math.log(1e-10)))
    both = log_mel(torch.stack([wave, tone(0.5, seed=1)]))
    assert torch.allclose(both[0], log_mel(wave), atol=1e-5)
    low, high = (log_mel(tone(0.5, hertz=h)).mean(0).argmax() for h in (300, 3000))
    assert low < 15 < 45 < high
    with pytest.raises(ValueError, match="hold no frequency"):
        LogMel(rate=8000, mels=300)
    with pytest.raises(ValueError, match="1 to 3 hops"):
        LogMel(window_ms=40, hop_ms=10)


def test_mfcc_is_an_orthonormal_transform_with_differences():
    energy = torch.randn(30, 20, generator=torch.Generator().manual_seed(0))
    full = mfcc(energy, 20)
    assert torch.allclose(full[:, :20].norm(dim=1), energy.norm(dim=1), atol=1e-4)
    ramp = mfcc(torch.arange(30.0)[:, None].expand(30, 20), 3)
    assert torch.allclose(ramp[4:-4, 3], torch.full((22,), 20**0.5), atol=1e-3)  # a slope of 1 a frame, in all 20 bands
    assert ramp[6:-6, 6:].abs().max() < 1e-3


# ---- reading


@pytest.mark.parametrize("front_end", FRONT_ENDS)
@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize(("rate", "seconds"), [(8000, 0.31), (16000, 1.0), (22050, 0.777), (44100, 3.21)])
def test_length_is_known_from_the_header(tmp_path, front_end, suffix, rate, seconds):
    tokenizer = fitted(front_end, max_seconds=2.0).tokenizer
    path = save(tmp_path / f"a.{suffix}", tone(seconds, rate), rate)
    [record] = tokenizer.records(path)
    for draw in (None, Draw(3)):
        piece = tokenizer.tokenize(record.raw, draw)
        assert len(piece) == tokenizer.length(record) > 0
        assert piece.content.dtype == torch.float32
        assert not tokenizer.rowwise or len(piece.content) == len(piece)
    assert piece.content.shape[1:] == tokenizer.empty().shape[1:]


def test_tokens_of_so_many_samples():
    logmel, waveform = fitted("logmel").tokenizer, fitted("waveform").tokenizer
    for samples in (400, 719, 720, 16000, 31999):
        wave = torch.ones(samples)
        assert len(waveform.tokenize((wave, RATE))) == (samples - 400) // 320 + 1
        assert len(logmel.tokenize((wave, RATE))) == samples // 320
    three = fitted("logmel", hop_ms=12.5, frames_per_token=3, mels=32).tokenizer
    assert three.tokenize((tone(1.0), RATE)).content.shape == (26, 96)


def test_channels_are_averaged_and_rates_converted(tmp_path):
    tokenizer = fitted("waveform").tokenizer
    left, right = tone(1.0, 8000, 300), tone(1.0, 8000, 500, seed=1)
    stereo = save(tmp_path / "s.wav", torch.stack([left, right], 1), 8000, subtype="FLOAT")
    ours, _ = tokenizer.detokenize(tokenizer.tokenize(stereo).content)
    theirs, rate = tokenizer.detokenize(tokenizer.tokenize(((left + right) / 2, 8000)).content)
    assert rate == RATE
    assert len(ours) == RATE
    assert torch.allclose(ours, theirs, atol=1e-5)
    assert abs(float(ours.mean())) < 1e-5
    assert abs(float(ours.std()) - 1) < 1e-3
    spectrum = torch.fft.rfft(ours).abs()
    assert {int(i) for i in spectrum.topk(2).indices} == {300, 500}  # 1 s: bins are hertz


@pytest.mark.parametrize("source", ["file", "array"])
def test_long_records_are_cropped_by_their_draw(tmp_path, caplog, source):
    tokenizer = fitted("waveform", max_seconds=0.5).tokenizer
    wave = torch.arange(2 * RATE) / (2 * RATE)
    raw = save(tmp_path / "a.wav", wave, subtype="FLOAT") if source == "file" else (wave, RATE)
    with caplog.at_level(logging.WARNING, logger="mmm"):
        crops = [tokenizer.tokenize(raw, Draw(seed)).content for seed in range(5)]
    assert len(caplog.records) == 1
    assert "max_seconds=0.5" in caplog.text
    assert all(len(c) == RATE // 2 for c in crops)
    assert torch.equal(crops[0], tokenizer.tokenize(raw, Draw(0)).content)
    # crops of a ramp look alike after normalisation, so compare their starts on noise
    noise = (Draw(9).uniform(torch.arange(2 * RATE)), RATE)
    noisy = [tokenizer.tokenize(noise, Draw(seed)).content for seed in range(5)]
    assert len({float(c[0]) for c in noisy}) == 5
    first = noise[0][: RATE // 2]
    assert torch.allclose(tokenizer.tokenize(noise).content, (first - first.mean()) / first.std(correction=0), atol=1e-5)


def test_key_is_of_the_content(tmp_path):
    tokenizer = fitted("logmel").tokenizer
    one, two = save(tmp_path / "1.wav", tone(0.5)), save(tmp_path / "2.wav", tone(0.5))
    other = save(tmp_path / "3.wav", tone(0.5, seed=1))
    keys = [next(iter(tokenizer.records(p))).key for p in (one, two, other)]
    assert keys[0] == keys[1] != keys[2]


def broken_files(folder: Path) -> dict[str, Path]:
    """One file for each way a sound file can be bad."""
    good = save(folder / "good.wav", tone(1.0)).read_bytes()
    flac = save(folder / "good.flac", tone(3.0)).read_bytes()
    files = {
        "empty": b"",
        "header only": good[:44],
        "half a header": good[:20],
        "text": b"this is no sound file at all\n" * 50,
        "web page": b"<html><body>404</body></html>",
        "no rate": good[:24] + bytes(4) + good[28:],
        "no channels": good[:22] + bytes(2) + good[24:],
    }
    paths = {}
    for name, data in files.items():
        paths[name] = folder / f"{name}.wav"
        paths[name].write_bytes(data)
    paths["truncated"] = folder / "truncated.flac"
    paths["truncated"].write_bytes(flac[: len(flac) // 2])
    infinite, no_number = tone(1.0), tone(1.0)
    infinite[5], no_number[7] = math.inf, math.nan
    paths["infinite"] = save(folder / "infinite.wav", infinite, subtype="FLOAT")
    paths["no number"] = save(folder / "no_number.wav", no_number, subtype="FLOAT")
    paths["too short"] = save(folder / "short.wav", tone(0.01))
    paths["odd rate"] = save(folder / "odd.wav", tone(1.0), 15991)
    paths["4 GHz"] = save(folder / "fast.wav", tone(1.0))
    paths["4 GHz"].write_bytes(good[:24] + (4_000_000_000).to_bytes(4, "little") + good[28:])
    paths["missing"] = folder / "missing.wav"
    paths["folder"] = folder / "folder.wav"
    paths["folder"].mkdir()
    return paths


BROKEN = ["empty", "header only", "half a header", "text", "web page", "no rate", "no channels", "truncated"]
BROKEN += ["infinite", "no number", "too short", "odd rate", "4 GHz", "missing", "folder"]


@pytest.mark.parametrize("front_end", FRONT_ENDS)
@pytest.mark.parametrize("kind", BROKEN)
def test_a_bad_file_is_one_bad_record_that_names_it(tmp_path, kind, front_end):
    paths = broken_files(tmp_path)
    assert set(paths) == set(BROKEN)
    tokenizer = fitted(front_end).tokenizer

    def read() -> None:
        for record in tokenizer.records(paths[kind]):
            tokenizer.length(record)
            tokenizer.tokenize(record.raw)

    with pytest.raises(BadRecord) as raised:
        read()
    assert str(paths[kind]) in str(raised.value)


def test_a_lying_rate_is_not_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr("mmm.modalities._waveforms.MAX_DECODED", 1000)
    path = save(tmp_path / "a.wav", tone(1.0))
    with pytest.raises(BadRecord, match="too many"):
        fitted("waveform").tokenizer.tokenize(path)


@pytest.mark.parametrize(
    ("wave", "rate"),
    [
        (torch.zeros(2, 16000), RATE),
        (torch.zeros(16000, dtype=torch.int16), RATE),
        (torch.full((16000,), math.nan), RATE),
        (torch.full((16000,), 1e30), RATE),
        (torch.zeros(16000), 0),
        (torch.zeros(0), RATE),
    ],
)
def test_a_bad_array_is_a_bad_record(wave, rate):
    with pytest.raises(BadRecord, match="in memory"):
        fitted("waveform").tokenizer.tokenize((wave, rate))


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_silence_is_a_sound(front_end):
    piece = fitted(front_end).tokenizer.tokenize((torch.zeros(RATE), RATE))
    assert piece.content.isfinite().all()


# ---- life


def test_fit_normalises_each_band_and_survives_bad_records(tmp_path, caplog):
    audio = Audio()
    paths = [save(tmp_path / f"{i}.wav", tone(1.0, hertz=200 * (i + 1), seed=i)) for i in range(6)]
    records = [r for p in paths for r in audio.tokenizer.records(p)]
    paths[5].write_bytes(b"RIFF of no use")
    with pytest.raises(ValueError, match="fit"):
        audio.tokenizer.tokenize(paths[0])
    with caplog.at_level(logging.WARNING, logger="mmm"):
        audio.fit(records)
    assert str(paths[5]) in caplog.text
    rows = torch.cat([audio.tokenizer.tokenize(p).content for p in paths[:5]]).view(-1, 80)
    assert rows.mean(0).abs().max() < 1e-3
    assert (rows.std(0) - 1).abs().max() < 1e-2
    again = Audio()
    again.restore(audio.assets())
    assert torch.equal(again.tokenizer.tokenize(paths[0]).content, audio.tokenizer.tokenize(paths[0]).content)
    with pytest.raises(ValueError, match="mels=40"):
        Audio(mels=40).restore(audio.assets())
    with pytest.raises(ValueError, match="no record"):
        Audio().fit(records[5:])


def test_fit_says_when_it_takes_a_part(caplog, monkeypatch):
    monkeypatch.setattr("mmm.modalities._waveforms.FIT_RECORDS", 2)
    records = [Record("memory", i, (tone(0.5, seed=i), RATE), bytes([i])) for i in range(4)]
    one, two = Audio(), Audio()
    with caplog.at_level(logging.WARNING, logger="mmm"):
        one.fit(records)
    two.fit(records[::-1])
    assert "2 of the 4 records" in caplog.text
    assert torch.allclose(one.tokenizer.mean_M, two.tokenizer.mean_M)


def test_waveform_needs_no_fit():
    audio = Audio(front_end="waveform")
    audio.fit([])
    audio.restore(audio.assets())
    assert audio.assets() == {}


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_tokenizer_pickles(front_end):
    tokenizer = fitted(front_end).tokenizer
    copy: AudioTokenizer = pickle.loads(pickle.dumps(tokenizer))
    assert torch.equal(copy.tokenize((tone(1.0), RATE)).content, tokenizer.tokenize((tone(1.0), RATE)).content)


def test_centred_bands_are_deaf_to_loudness_and_microphone():
    audio = Audio(rate=4000, mels=8, hop_ms=20.0, centre=True)
    torch.manual_seed(0)
    waves = [torch.randn(4000) * 0.1 for _ in range(3)]
    audio.fit([Record("memory", i, (wave, 4000), bytes([i])) for i, wave in enumerate(waves)])
    plain, loud = (audio.tokenizer.tokenize((wave, 4000)).content for wave in (waves[0], waves[0] * 3))
    assert torch.allclose(plain, loud, atol=1e-4)
    frames_FM = audio.tokenizer.energies(plain)
    assert torch.allclose(frames_FM.mean(0), torch.zeros(8), atol=1e-5)
    with pytest.raises(ValueError, match="centre=True"):
        Audio(front_end="waveform", centre=True)


def test_detokenize_gives_log_mel_frames_back():
    tokenizer = fitted("logmel").tokenizer
    wave = tone(1.0)
    frames = tokenizer.detokenize(tokenizer.tokenize((wave, RATE)).content)
    assert torch.allclose(frames, tokenizer.log_mel(wave), atol=1e-4)


@pytest.mark.parametrize(
    "arguments",
    [{"max_seconds": 0.0}, {"max_seconds": 3600.0}, {"frames_per_token": 0}, {"front_end": "waveform", "max_seconds": 0.02}],
)
def test_bad_arguments(arguments):
    with pytest.raises(BadRecipe):
        Audio(**arguments)


def test_conv_positions_name_a_width_they_cannot_take():
    with pytest.raises(ValueError, match="width 24"):
        Audio(positions="conv").build(24)


# ---- embedding

VARIANTS = [
    {"front_end": "logmel", "positions": "none"},
    {"front_end": "logmel", "positions": "sinusoidal", "norm": True},
    {"front_end": "logmel", "positions": "conv"},
    {"front_end": "waveform", "positions": "sinusoidal", "conv_width": 24, "conv_norm": "group"},
    {"front_end": "waveform", "positions": "conv", "conv_width": 24, "conv_norm": "layer", "norm": True},
    {"front_end": "waveform", "positions": "conv", "conv_width": 24, "conv_bias": False, "feature_norm": False},
    {"front_end": "logmel", "positions": "conv", "neighbours": Neighbours(19, 4, 5, "layer")},
    {"front_end": "logmel", "positions": "conv", "neighbours": Neighbours(8, 2, 2)},
]


def built(arguments: dict, width: int = 32) -> Audio:
    torch.manual_seed(0)
    audio = fitted(**arguments)
    audio.build(width)
    return audio


@pytest.mark.parametrize("arguments", VARIANTS)
def test_packed_equals_alone(arguments):
    audio = built(arguments)
    waves = [tone(s, seed=i) for i, s in enumerate((0.4, 0.7, 0.7, 1.3))]
    together = embedded(audio, packed(audio, *waves))
    alone = torch.cat([embedded(audio, packed(audio, w)) for w in waves])
    assert together.shape == alone.shape
    assert (together - alone).abs().max() < 1e-5


@pytest.mark.parametrize("arguments", VARIANTS)
def test_gradient_reaches_every_parameter(arguments):
    audio = built(arguments)
    tokens = packed(audio, tone(0.5), tone(0.9, seed=1))
    hidden_N = torch.arange(len(tokens)) % 3 == 0
    embedded(audio, tokens, hidden_N).square().sum().backward()
    for name, parameter in audio.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("positions", ["none", "sinusoidal", "conv"])
def test_a_hidden_token_shows_nothing_of_its_content(positions):
    audio = built({"front_end": "logmel", "positions": positions})
    tokens = packed(audio, tone(1.0))
    hidden_N = torch.zeros(50, dtype=torch.bool)
    hidden_N[10:20] = True
    content = tokens.content["audio"].clone()
    content[10:20] = 7.0
    changed = tokens.with_content(audio=content)
    assert torch.equal(embedded(audio, tokens, hidden_N), embedded(audio, changed, hidden_N))
    assert not torch.equal(embedded(audio, tokens), embedded(audio, changed))


def test_conv_positions_of_kept_tokens_stand_where_they_stood():
    """MAE's drop: the kept tokens get what they would get with zeros in place of the dropped ones."""
    audio = built({"front_end": "logmel", "positions": "conv"})
    tokens = packed(audio, tone(0.8), tone(1.2, seed=1))
    part = tokens.part("audio")
    keep = (torch.arange(len(tokens)) * 7 % 10 < 4).nonzero()[:, 0]
    kept = audio.embed(part.content_R[keep], part.layout_N.select(keep), torch.zeros(len(keep), dtype=torch.bool))
    x = torch.zeros(len(tokens), 32)
    x[keep] = audio.project(part.content_R[keep])
    full = x + audio.conv_positions(x, part.layout_N)
    assert torch.allclose(kept, full[keep], atol=1e-5)


def test_embed_under_autocast():
    """bfloat16 is near full precision, also where the CPU library's own grouped convolution is not."""
    for arguments, width in [(a, w) for a in VARIANTS for w in (32, 192, 256)]:
        audio = built(arguments, width)
        tokens = packed(audio, tone(0.5))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = embedded(audio, tokens).float()
        full = embedded(audio, tokens)
        assert (low - full).norm() < 0.05 * full.norm()


# ---- parity


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_front_end_is_huberts(norm):
    """Samples to the encoder's input: values, and gradients of all weights, from transformers' weights by a map of names."""
    from transformers import HubertConfig, HubertModel

    width, channels = 32, 24
    config = HubertConfig(
        hidden_size=width,
        conv_dim=[channels] * 7,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        feat_extract_norm=norm,
        conv_bias=norm == "layer",
        feat_proj_dropout=0.0,
    )
    torch.manual_seed(1)
    theirs = HubertModel(config)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    names = {
        "feature_projection.layer_norm": "project.0",
        "feature_projection.projection": "project.1",
        "encoder.pos_conv_embed.conv": "conv_positions.conv",
        "encoder.layer_norm": "norm",
    }
    for i in range(7):
        names[f"feature_extractor.conv_layers.{i}.conv"] = f"convolutions.layers.{i}"
        names[f"feature_extractor.conv_layers.{i}.layer_norm"] = f"convolutions.layers.{i}.norm"
    mapped = {"mask": theirs.masked_spec_embed}
    for name, parameter in theirs.named_parameters():
        for old, new in names.items():
            if name.startswith(f"{old}."):
                mapped[new + name.removeprefix(old)] = parameter
    audio = Audio(front_end="waveform", positions="conv", norm=True, conv_width=channels, conv_norm=norm)
    audio.build(width)
    audio.load_state_dict({k: v.detach() for k, v in mapped.items()}, strict=True)

    waves = [tone(s, seed=i) for i, s in enumerate((0.6, 0.6, 0.9))]
    tokens = packed(audio, *waves)
    hidden_N = torch.zeros(len(tokens), dtype=torch.bool)
    hidden_N[[3, 4, 5, 40, 41]] = True
    ours = embedded(audio, tokens, hidden_N)
    start, outputs = 0, []
    for wave in waves:
        sample = audio.tokenizer.tokenize((wave, RATE)).content
        x = theirs.feature_projection(theirs.feature_extractor(sample[None]).transpose(1, 2))
        hidden = hidden_N[start : start + x.shape[1]]
        start += x.shape[1]
        x = torch.where(hidden[None, :, None], theirs.masked_spec_embed, x)
        outputs.append(theirs.encoder.layer_norm(x + theirs.encoder.pos_conv_embed(x))[0])
    expected = torch.cat(outputs)
    assert (ours - expected).abs().max() < 1e-4 * expected.abs().max()
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    (ours * weight).sum().backward()
    (expected * weight).sum().backward()
    for name, parameter in audio.named_parameters():
        gradient = mapped[name].grad
        assert (parameter.grad - gradient).abs().max() <= 1e-3 * gradient.abs().max(), name


# ---- pictures


def answer_of(tokens: Tokens, places: Tensor, truth: Tensor, output: Tensor) -> Answer:
    zero = torch.zeros(len(places))
    return Answer("audio", None, "head", places, output, truth, zero, zero + 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_pictures_show_the_record_and_what_is_hidden(front_end):
    audio = fitted(front_end)
    tokens = packed(audio, tone(1.0))
    hidden_N = torch.zeros(len(tokens), dtype=torch.bool)
    hidden_N[10:15] = True
    original, masked = audio.pictures(tokens, "audio", hidden_N, [])
    assert isinstance(original, Raster)
    assert isinstance(masked, Raster)
    assert original.pixels.shape == (80, 2 * len(tokens), 3)
    assert original.pixels.min() >= 0
    assert original.pixels.max() <= 1
    assert (masked.pixels[:, 20:30] == 0.5).all()
    assert torch.equal(masked.pixels[:, :20], original.pixels[:, :20])
    assert torch.equal(masked.pixels[:, 30:], original.pixels[:, 30:])
    brightest = original.pixels.sum(-1).mean(1).argmax()
    assert brightest > 60  # 440 Hz is near the bottom


@pytest.mark.parametrize("normalise", [False, True])
def test_pictures_of_regressed_frames(normalise):
    audio = fitted("logmel")
    tokens = packed(audio, tone(1.0))
    places = torch.arange(10, 15)
    truth = tokens.content["audio"][places]
    if normalise:
        truth = (truth - truth.mean(-1, keepdim=True)) / (truth.var(-1, keepdim=True) + 1e-6).sqrt()
    hidden_N = torch.zeros(len(tokens), dtype=torch.bool)
    hidden_N[places] = True
    right = audio.pictures(tokens, "audio", hidden_N, [answer_of(tokens, places, truth, truth)])
    assert [p.caption for p in right] == ["original", "masked", "filled"]
    assert (right[2].pixels - right[0].pixels).abs().max() < 0.02
    wrong = audio.pictures(tokens, "audio", hidden_N, [answer_of(tokens, places, truth, truth - 2)])
    assert (wrong[2].pixels - right[0].pixels).abs()[:, 20:30].max() > 0.1
    other = replace(answer_of(tokens, places, truth, truth), name="text")
    assert len(audio.pictures(tokens, "audio", hidden_N, [other])) == 2


def test_pictures_of_units():
    audio = fitted("waveform")
    tokens = packed(audio, tone(1.0))
    places = torch.tensor([3, 4, 9])
    output = torch.nn.functional.one_hot(torch.tensor([5, 6, 7]), 8).float()
    hidden_N = torch.zeros(len(tokens), dtype=torch.bool)
    hidden_N[places] = True
    units = audio.pictures(tokens, "audio", hidden_N, [answer_of(tokens, places, torch.tensor([5, 6, 0]), output)])[2]
    assert isinstance(units, Marked)
    assert units.caption.endswith("2 of 3 right")
    assert units.words == (
        ("…", "seen", "3 tokens seen"),
        ("5", "right", "5"),
        ("6", "right", "6"),
        ("…", "seen", "4 tokens seen"),
        ("7", "wrong", "0"),
    )


# ---- what models from elsewhere need


def test_what_is_left_out_is_known():
    tokenizer = fitted("waveform", max_seconds=0.5).tokenizer
    assert not tokenizer.tokenize((tone(0.5), RATE)).cut
    assert not tokenizer.tokenize((tone(0.45), RATE)).cut  # what is over at the end makes no token, and is no loss
    assert tokenizer.tokenize((tone(0.51), RATE)).cut
    assert fitted("logmel", max_seconds=0.5).tokenizer.tokenize((tone(0.6), RATE), Draw(0)).cut


def test_one_channel_may_have_an_axis():
    tokenizer, wave = fitted("waveform").tokenizer, tone(0.5)
    assert torch.equal(tokenizer.tokenize((wave[None], RATE)).content, tokenizer.tokenize((wave, RATE)).content)
    for raw in ((wave,), wave, None):
        with pytest.raises(BadRecord, match="in memory"):
            tokenizer.tokenize(raw)


@pytest.mark.parametrize("standardise", [None, 1e-7, 1e-2])
def test_records_are_standardised_as_asked(standardise):
    wave = 0.1 * tone(0.5) + 0.03
    content = fitted("waveform", standardise=standardise).tokenizer.tokenize((wave, RATE)).content
    want = wave if standardise is None else (wave - wave.mean()) / (wave.var(correction=0) + standardise).sqrt()
    assert torch.allclose(content, want, atol=1e-6)


@pytest.mark.parametrize(("kernels", "strides"), [([8, 8, 8], [4, 4, 4]), ([9, 5], [9, 3]), ([3], [3])])
def test_other_convolutions(kernels, strides):
    """Frames of pictures and units go with the tokens, whatever a token's stride."""
    audio = built({"front_end": "waveform", "mels": 1, "conv_kernels": kernels, "conv_strides": strides, "conv_width": 8})
    tokens = packed(audio, tone(0.03), tone(0.05, seed=1))
    together = embedded(audio, tokens)
    assert together.shape == (len(tokens), 32)
    for run in tokens.runs["audio"]:
        content = tokens.segment(run.segment).content["audio"]
        x = content[None, None]
        for kernel, stride in zip(kernels, strides, strict=True):
            x = x.unfold(2, kernel, stride)[..., 0]
        assert x.shape[2] == run.tokens
        assert len(audio.tokenizer.energies(content)) == run.tokens * audio.tokenizer.frames_per_token


@pytest.mark.parametrize("arguments", [{"conv_kernels": [3, 3]}, {"conv_kernels": [2], "conv_strides": [3]}])
def test_convolutions_that_skip_samples_are_refused(arguments):
    with pytest.raises(BadRecipe, match="conv_strides"):
        Audio(front_end="waveform", **arguments)


def test_neighbours_below_one_are_refused():
    with pytest.raises(ValueError, match="1 or more"):
        Audio(positions="conv", neighbours=Neighbours(depth=0)).build(32)
