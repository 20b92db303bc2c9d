"""Sound: records of waveforms; log-mel frames, or samples that a convolutional front end turns into frames.

Shape suffixes: R content rows, N tokens of this modality, L samples, F frames, M mel bands, D width, B pieces of one
length, P padded tokens, H x W pixels.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmm.core.draw import Draw
from mmm.core.errors import BadRecipe, BadRecord
from mmm.core.layout import Layout, Run, lengths_to_segments
from mmm.core.modality import Assets, Modality, Record, Tokenizer
from mmm.core.objective import Answer
from mmm.core.picture import Marked, Picture, Raster
from mmm.core.tokens import Piece, Tokens
from mmm.nn.positions import sinusoidal
from mmm.nn.spectral import DECIBEL, LogMel

if TYPE_CHECKING:
    import soundfile

log = logging.getLogger("mmm")

FrontEnd = Literal["logmel", "waveform"]
KERNELS, STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
"""Of the convolutions of wav2vec 2.0 and HuBERT: a token every 320 samples, each made of 400."""
FIT_RECORDS = 2000
"""Records the mean and deviation are taken of, where there are more."""
MAX_DECODED = 2**26
"""Samples decoded at once, over all channels: 256 MiB."""
IN_MEMORY = "a waveform in memory"
"""Named in errors where there is no file."""
LOUDEST = 1e6
"""A sample beyond this is no sound (full scale is 1; files of unscaled 16-bit numbers reach 32768)."""


class AudioTokenizer(Tokenizer):
    """Waveforms to pieces. A raw value is the path of a sound file, or (waveform, rate) with floats (L,) in -1..1.

    Channels are averaged into one, and what has another rate is resampled (a windowed sinc with 6 zero crossings). A
    record of more than ``max_seconds`` is cropped before it is decoded, at a start that ``draw`` chooses; without a
    draw, its beginning is taken. What is left after the last whole token is cut off.

    Args:
        front_end, rate, max_seconds, mels, hop_ms, frames_per_token: see ``Audio``.
    """

    suffixes = (".wav", ".flac", ".ogg", ".mp3")

    def __init__(self, front_end: FrontEnd, rate: int, max_seconds: float, mels: int, hop_ms: float, frames_per_token: int):
        self.rowwise = front_end == "logmel"
        if not self.rowwise:  # frames of a spectrogram that goes with the tokens: two of them each
            hop_ms, frames_per_token = 1000 * math.prod(STRIDES) / 2 / rate, 2
        if frames_per_token < 1:
            raise BadRecipe(f"Audio(frames_per_token={frames_per_token}): needs 1 or more")
        self.log_mel = LogMel(rate, mels, 2.5 * hop_ms, hop_ms)
        self.rate, self.max_seconds, self.frames_per_token = rate, max_seconds, frames_per_token
        if self._tokens(int(max_seconds * rate)) < 1 or max_seconds * rate >= 2**24:
            raise BadRecipe(f"Audio(max_seconds={max_seconds}): needs a token at least and 2**24 samples at most, at {rate} Hz")
        self.mean_M: Tensor | None = None
        self.deviation_M: Tensor | None = None
        self.said_crop = False

    def fit(self, records: Sequence[Record]) -> None:
        """Mean and deviation of each mel band over the records, or over ``FIT_RECORDS`` of them chosen by their keys.

        A record that cannot be read is left out aloud. Raises ValueError where none is left.
        """
        if not self.rowwise:
            return
        chosen = sorted(records, key=lambda r: r.sample)[:FIT_RECORDS]
        if len(chosen) < len(records):
            log.warning("Audio: mean and deviation are taken of %d of the %d records", len(chosen), len(records))
        total_M = torch.zeros(self.log_mel.mels, dtype=torch.float64)
        square_M, frames = torch.zeros_like(total_M), 0
        for record in chosen:
            try:
                energy_FM = self.log_mel(self._waveform(record.raw, None)).double()
            except BadRecord as e:
                log.warning("Audio: left out of mean and deviation: %s", e)
                continue
            total_M += energy_FM.sum(0)
            square_M += energy_FM.square().sum(0)
            frames += len(energy_FM)
        if frames == 0:
            raise ValueError(f"Audio: no record of {len(records)} to take mean and deviation of")
        mean_M = total_M / frames
        variance_M = square_M / frames - mean_M.square()
        self.mean_M, self.deviation_M = mean_M.float(), variance_M.clamp(min=1e-4).sqrt().float()

    def assets(self) -> Assets:
        if not self.rowwise:
            return {}
        mean_M, deviation_M = self._fitted()
        return {"logmel.json": json.dumps({"mean": mean_M.tolist(), "deviation": deviation_M.tolist()}).encode()}

    def restore(self, assets: Assets) -> None:
        """Raises ValueError where the assets are of other mel bands."""
        if not self.rowwise:
            return
        fitted = json.loads(assets["logmel.json"])
        if len(fitted["mean"]) != self.log_mel.mels:
            raise ValueError(f"Audio(mels={self.log_mel.mels}): logmel.json holds {len(fitted['mean'])} bands")
        self.mean_M, self.deviation_M = torch.tensor(fitted["mean"]), torch.tensor(fitted["deviation"])

    def _fitted(self) -> tuple[Tensor, Tensor]:
        if self.mean_M is None or self.deviation_M is None:
            raise ValueError("Audio has no mean and deviation yet: call fit(records) or restore(assets) first")
        return self.mean_M, self.deviation_M

    def tokenize(self, raw: Any, draw: Draw | None = None) -> Piece:
        """Raises BadRecord: no sound file, too short for a token, truncated, samples that are no numbers."""
        sample_L = self._waveform(raw, draw)
        tokens = self._tokens(len(sample_L))
        if self.rowwise:
            mean_M, deviation_M = self._fitted()
            energy_FM = self.log_mel(sample_L)[: tokens * self.frames_per_token]
            content_R = ((energy_FM - mean_M) / deviation_M).view(tokens, -1)
        else:
            variance, mean = torch.var_mean(sample_L, correction=0)
            content_R = (sample_L - mean) / (variance + 1e-7).sqrt()
        return Piece(content_R, torch.arange(tokens))

    def detokenize(self, content_R: Tensor) -> Any:
        """Of samples: (waveform, rate), at zero mean and unit variance as the model hears it.

        Of log-mel rows: the frames (F, M) in natural logarithms. Their phases are gone, so a waveform cannot be had back.
        """
        return self.energies(content_R) if self.rowwise else (content_R, self.rate)

    def energies(self, content_R: Tensor) -> Tensor:
        """energy_FM of one piece, natural logarithms: ``frames_per_token`` frames a token, from either kind of content."""
        if self.rowwise:
            mean_M, deviation_M = (x.to(content_R.device) for x in self._fitted())
            return content_R.reshape(-1, self.log_mel.mels) * deviation_M + mean_M
        return self.log_mel(content_R)[: self._tokens(len(content_R)) * self.frames_per_token]

    def empty(self) -> Tensor:
        return torch.zeros(0, self.frames_per_token * self.log_mel.mels) if self.rowwise else torch.zeros(0)

    def records(self, path: Path) -> Iterator[Record]:
        """One record a file. Its key is made of its size and its first 64 KiB."""
        if not path.is_file():
            raise BadRecord(path, None, "there is no such file")
        try:
            with path.open("rb") as file:
                head = file.read(2**16)
        except OSError as e:
            raise BadRecord(path, None, f"cannot be read: {e.strerror}") from e
        if not head:
            raise BadRecord(path, None, "the file is empty")
        key = hashlib.blake2b(head + path.stat().st_size.to_bytes(8, "little"), digest_size=16).digest()
        yield Record(str(path), None, path, key)

    def length(self, record: Record) -> int:
        """Tokens, from the header alone."""
        if isinstance(record.raw, tuple):
            wave_L, rate = _in_memory(record.raw)
            frames = len(wave_L)
        else:
            with _opened(record.raw) as file:
                frames, rate = file.frames, file.samplerate
        return self._tokens(self._resampled(record.path, self._crop(frames, rate, None), rate))

    def _tokens(self, samples: int) -> int:
        """Tokens of so many samples."""
        if self.rowwise:
            return samples // (self.log_mel.hop * self.frames_per_token)
        for kernel, stride in zip(KERNELS, STRIDES, strict=True):
            samples = max(0, (samples - kernel) // stride + 1)
        return samples

    def _crop(self, frames: int, rate: int, draw: Draw | None) -> slice:
        """Which of a record's own samples are read."""
        most = int(self.max_seconds * rate)
        if frames <= most:
            return slice(0, frames)
        if not self.said_crop:
            log.warning("a sound of %.1f s is cropped to max_seconds=%g; this is said once", frames / rate, self.max_seconds)
            self.said_crop = True
        start = 0 if draw is None else int(draw.stream("crop").integers(frames - most + 1))
        return slice(start, start + most)

    def _resampled(self, path: Any, crop: slice, rate: int) -> int:
        """Samples a crop has at the tokenizer's rate. Raises BadRecord: no token, or no simple ratio of the two rates."""
        common = math.gcd(rate, self.rate)
        if (rate // common) * (self.rate // common) > 2**24:  # the resampling filters would not fit into memory
            raise BadRecord(path, None, f"its rate of {rate} Hz cannot be turned into {self.rate} Hz; resample the file")
        samples = (crop.stop - crop.start) * self.rate // rate
        if self._tokens(samples) == 0:
            raise BadRecord(path, None, f"{samples} samples at {self.rate} Hz are too short for a token")
        return samples

    def _waveform(self, raw: Any, draw: Draw | None) -> Tensor:
        """sample_L, one channel at the tokenizer's rate."""
        import torchaudio.functional as AF

        if isinstance(raw, tuple):
            path: Any = IN_MEMORY
            wave_L, rate = _in_memory(raw)
            crop = self._crop(len(wave_L), rate, draw)
            samples = self._resampled(path, crop, rate)
            wave_L = wave_L[crop].float()
        else:
            path = raw
            with _opened(raw) as file:
                rate = file.samplerate
                crop = self._crop(file.frames, rate, draw)
                samples = self._resampled(path, crop, rate)
                wave_L = _decoded(file, path, crop)
        if not bool(wave_L.abs().max() <= LOUDEST):  # false for NaN too
            raise BadRecord(path, None, f"holds samples that are no numbers, or beyond {LOUDEST:g}")
        return AF.resample(wave_L, rate, self.rate)[:samples]


def _in_memory(raw: tuple[Any, int]) -> tuple[Tensor, int]:
    """(sample_L, rate). Raises BadRecord."""
    wave_L, rate = torch.as_tensor(raw[0]), int(raw[1])
    if wave_L.ndim != 1 or not wave_L.is_floating_point() or rate < 1:
        what = f"{wave_L.dtype} of shape {tuple(wave_L.shape)} at {rate} Hz"
        raise BadRecord(IN_MEMORY, None, f"{what}, where floats of one channel are needed")
    return wave_L, rate


def _opened(path: Any) -> soundfile.SoundFile:
    """A sound file, its header read. Raises BadRecord."""
    import soundfile

    if not Path(path).is_file():
        raise BadRecord(path, None, "there is no such file")
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.LibsndfileError, OSError, TypeError) as e:
        raise BadRecord(path, None, f"is no sound file that can be read: {e}") from e
    if file.samplerate < 1 or file.channels < 1:
        raise BadRecord(path, None, f"its header says {file.samplerate} Hz and {file.channels} channels")
    return file


def _decoded(file: soundfile.SoundFile, path: Any, crop: slice) -> Tensor:
    """sample_L of a crop, the mean of the channels. Raises BadRecord."""
    import soundfile

    frames = crop.stop - crop.start
    if frames * file.channels > MAX_DECODED:
        raise BadRecord(path, None, f"{frames} samples of {file.channels} channels are too many; lower max_seconds")
    try:
        file.seek(crop.start)
        wave = file.read(frames, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as e:
        raise BadRecord(path, None, f"cannot be decoded: {e}") from e
    if len(wave) < frames:
        decoded = crop.start + len(wave)
        raise BadRecord(path, None, f"is truncated: {file.frames} samples by its header, {decoded} could be decoded")
    return torch.from_numpy(wave).mean(1)


class Audio(Modality):
    """Sound, by one of two front ends.

    - ``logmel``: a token is ``frames_per_token`` frames of log-mel energies, by default 2 x 10 ms x 80 bands = 160
      numbers; each band is normalised by its mean and deviation over the training records. Windows are 2.5 hops long.
      One linear product embeds it.
    - ``waveform``: samples, each record at zero mean and unit variance, through the seven convolutions of wav2vec 2.0
      and HuBERT, a LayerNorm and a product. A token is made of 400 samples and stands 320 after the one before: 20 ms
      at 16 kHz.

    A masked token's features are replaced after the product, before the positions.

    Paper: wav2vec 2.0, arXiv:2006.11477, section 2; HuBERT, arXiv:2106.07447, section II; log-mel input: SpecAugment,
    arXiv:1904.08779.

    Args:
        front_end: what content is: log-mel frames or samples.
        rate: samples a second that everything is resampled to.
        max_seconds: longer records are cropped to a random stretch.
        mels: bands of a log-mel frame (for ``waveform``: of the pictures and of MFCC targets).
        hop_ms: milliseconds a log-mel frame. frames_per_token: frames a token. Without meaning for ``waveform``.
        positions: "conv": a grouped convolution over 128 tokens is added (HuBERT); "none" where the encoder's are
            rotary.
        norm: LayerNorm after the positions (HuBERT base).
        conv_width: channels of the convolutions of ``waveform``.
        conv_norm: "group": the first of them is normalised over time (HuBERT base); "layer": all are, over channels
            (HuBERT large).
    """

    def __init__(
        self,
        front_end: FrontEnd = "logmel",
        rate: int = 16000,
        max_seconds: float = 15.0,
        mels: int = 80,
        hop_ms: float = 10.0,
        frames_per_token: int = 2,
        positions: Literal["none", "sinusoidal", "conv"] = "sinusoidal",
        norm: bool = False,
        conv_width: int = 512,
        conv_norm: Literal["group", "layer"] = "layer",
    ):
        super().__init__()
        self.tokenizer: AudioTokenizer = AudioTokenizer(front_end, rate, max_seconds, mels, hop_ms, frames_per_token)
        self.positions, self.with_norm = positions, norm
        self.conv_width, self.conv_norm = conv_width, conv_norm

    def fit(self, records: Sequence[Record]) -> None:
        self.tokenizer.fit(records)

    def assets(self) -> Assets:
        return self.tokenizer.assets()

    def restore(self, assets: Assets) -> None:
        self.tokenizer.restore(assets)

    def build(self, width: int) -> None:
        """Raises ValueError where the width is no multiple of the groups of convolutional positions."""
        if self.tokenizer.rowwise:
            self.convolutions = None
            self.project: nn.Module = nn.Linear(self.tokenizer.empty().shape[1], width)
        else:
            self.convolutions = _Convolutions(self.conv_width, self.conv_norm)
            self.project = nn.Sequential(nn.LayerNorm(self.conv_width), nn.Linear(self.conv_width, width))
        self.mask = nn.Parameter(torch.empty(width))
        nn.init.normal_(self.mask, std=0.02)
        self.conv_positions = _ConvPositions(width) if self.positions == "conv" else None
        self.norm = nn.LayerNorm(width) if self.with_norm else nn.Identity()

    def embed(self, content_R: Tensor, layout_N: Layout, hidden_N: Tensor) -> Tensor:
        """x_ND."""
        features_N = content_R if self.convolutions is None else self.convolutions(content_R, layout_N.runs)
        x_ND = self.project(features_N)
        x_ND = torch.where(hidden_N[:, None], self.mask.to(x_ND.dtype), x_ND)
        if self.conv_positions is not None:
            x_ND = x_ND + self.conv_positions(x_ND, layout_N)
        elif self.positions == "sinusoidal":
            x_ND = x_ND + sinusoidal(layout_N.position_TC, x_ND.shape[1], 1).to(x_ND.dtype)
        return self.norm(x_ND)

    def pictures(self, tokens: Tokens, name: str, hidden_N: Tensor, answers: Sequence[Answer]) -> list[Picture]:
        """Spectrograms of the record whole, masked, and filled by every target that regresses its rows.

        One pixel a frame and band, low bands at the bottom, 80 dB deep. For every target that predicts units, those of the
        hidden tokens, guessed and true.
        """
        part = tokens.part(name)
        energy_FM = self.tokenizer.energies(part.content_R)
        hidden_F = hidden_N.repeat_interleave(self.tokenizer.frames_per_token)
        loudest = energy_FM.max()
        pictures: list[Picture] = [
            Raster("original", _spectrogram(energy_FM, loudest)),
            Raster("masked", _spectrogram(energy_FM, loudest, hidden_F)),
        ]
        for answer in answers:
            if answer.name != name:
                continue
            number_N = tokens.number_T[answer.answer_N.cpu()]
            if not answer.truth_N.is_floating_point():
                pictures.append(_units(number_N, answer))
            elif self.tokenizer.rowwise and (filled := _as_rows(answer, part.content_R[number_N])) is not None:
                content_R = part.content_R.clone()
                content_R[number_N] = filled.to(content_R.dtype)
                pictures.append(Raster("filled", _spectrogram(self.tokenizer.energies(content_R), loudest)))
        return pictures


class _Convolutions(nn.Module):
    """The feature encoder of wav2vec 2.0 and HuBERT: seven strided convolutions without padding, channels last.

    Args:
        width: channels. norm: see ``Audio``.
    """

    def __init__(self, width: int, norm: Literal["group", "layer"]):
        super().__init__()
        self.layers = nn.ModuleList(
            _Convolution(width if i else 1, width, kernel, stride, norm if norm == "layer" or i == 0 else None)
            for i, (kernel, stride) in enumerate(zip(KERNELS, STRIDES, strict=True))
        )

    def forward(self, sample_R: Tensor, runs: Sequence[Run]) -> Tensor:
        """(N, width). Every piece by itself, neighbours of equal length together."""
        features, start = [], 0
        for rows, same in groupby(runs, key=lambda run: run.rows):
            pieces = len(list(same))
            x_BLD = sample_R[start : start + pieces * rows].view(pieces, rows, 1)
            start += pieces * rows
            for layer in self.layers:
                x_BLD = layer(x_BLD)
            features.append(x_BLD.flatten(0, 1))
        return torch.cat(features)


class _Convolution(nn.Module):
    """One of them with its norm and GELU, as products of the stretches of ``stride`` rows that its kernel is made of.

    On a CPU that is several times faster than a convolution with channels first, and LayerNorm needs no transposition.
    """

    def __init__(self, channels: int, width: int, kernel: int, stride: int, norm: Literal["group", "layer"] | None):
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(width, channels, kernel))
        nn.init.kaiming_normal_(self.weight)
        self.bias = nn.Parameter(torch.zeros(width)) if norm == "layer" else None
        self.norm: nn.Module = nn.Identity()
        if norm == "layer":
            self.norm = nn.LayerNorm(width)
        elif norm == "group":
            self.norm = nn.GroupNorm(width, width)

    def forward(self, x_BLD: Tensor) -> Tensor:
        kernel, stride = self.weight.shape[2], self.stride
        length = (x_BLD.shape[1] - kernel) // stride + 1
        whole = kernel // stride * stride
        products = []
        for tap in range(0, whole, stride):
            stretches = x_BLD[:, tap : tap + length * stride].reshape(len(x_BLD), length, -1)
            weight = self.weight[:, :, tap : tap + stride].mT.flatten(1)
            products.append(F.linear(stretches, weight, self.bias if tap == 0 else None))
        for tap in range(whole, kernel):
            products.append(F.linear(x_BLD[:, tap::stride][:, :length], self.weight[:, :, tap]))
        y_BLD = sum(products[1:], products[0])
        y_BLD = self.norm(y_BLD.mT).mT if isinstance(self.norm, nn.GroupNorm) else self.norm(y_BLD)
        return F.gelu(y_BLD)


class _ConvPositions(nn.Module):
    """Positions from neighbours: GELU of a weight-normed convolution over 128 tokens of a piece, in 16 groups of channels.

    Paper: wav2vec 2.0, arXiv:2006.11477, section 2 ("relative positional embedding").

    Raises:
        ValueError: the width is no multiple of the groups.
    """

    KERNEL, GROUPS = 128, 16

    def __init__(self, width: int):
        super().__init__()
        if width % self.GROUPS:
            raise ValueError(f"Audio(positions='conv'): the encoder's width {width} is no multiple of {self.GROUPS}")
        conv = nn.Conv1d(width, width, self.KERNEL, groups=self.GROUPS)
        nn.init.normal_(conv.weight, std=2 / math.sqrt(self.KERNEL * width))
        self.conv = nn.utils.parametrizations.weight_norm(conv, dim=2)

    def forward(self, x_ND: Tensor, layout_N: Layout) -> Tensor:
        """What is to be added to x_ND. All pieces are convolved at once, zeros between them as wide as the kernel reaches."""
        reach = self.KERNEL // 2
        if layout_N.runs:
            run_N = lengths_to_segments([run.tokens for run in layout_N.runs]).to(x_ND.device)
            place_N = torch.arange(len(x_ND), device=x_ND.device) + reach * (run_N + 1)
            padded = len(x_ND) + reach * (len(layout_N.runs) + 1)
        else:  # some tokens were dropped: the others stand where they stood, zeros between them
            each = int(layout_N.position_TC.max()) + 1 + reach
            place_N = layout_N.position_TC[:, -1].long() + each * layout_N.segment_T + reach
            padded = each * layout_N.segments + reach
        x_PD = x_ND.new_zeros(padded, x_ND.shape[1]).index_copy(0, place_N, x_ND)
        return F.gelu(self._convolved(x_PD)[place_N - reach])

    def _convolved(self, x_PD: Tensor) -> Tensor:
        if x_PD.device.type != "cpu" or self.conv.weight.shape[1] >= 16:
            return self.conv(x_PD.T[None])[0].T
        # oneDNN's bfloat16 kernels for AMX give wrong numbers for groups of 2 to 15 channels (torch 2.14): full precision.
        with torch.autocast("cpu", enabled=False):
            weight, bias = self.conv.weight.float(), self.conv.bias.float()
            return F.conv1d(x_PD.float().T[None], weight, bias, groups=self.GROUPS)[0].T.to(x_PD.dtype)


_COLOURS = torch.tensor([[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]]) / 255
"""From quiet to loud: black, violet, red, orange, pale yellow."""


def _spectrogram(energy_FM: Tensor, loudest: Tensor, hidden_F: Tensor | None = None) -> Tensor:
    """pixels_HW3 of natural logarithms; hidden frames are grey."""
    depth_FM = (1 - (loudest - energy_FM) * (DECIBEL / 80)).clamp(0, 1).cpu()
    place_FM = depth_FM * (len(_COLOURS) - 1)
    below_FM = place_FM.long().clamp(max=len(_COLOURS) - 2)
    pixels = torch.lerp(_COLOURS[below_FM], _COLOURS[below_FM + 1], (place_FM - below_FM)[..., None])
    if hidden_F is not None:
        pixels[hidden_F.cpu()] = 0.5
    return pixels.transpose(0, 1).flip(0)


def _as_rows(answer: Answer, content_NV: Tensor) -> Tensor | None:
    """The prediction as content rows, where the target regresses the rows, or the rows normalised each by itself."""
    if answer.truth_N.shape != content_NV.shape:
        return None
    truth_NV, output_NV = answer.truth_N.float().cpu(), answer.output_NV.detach().float().cpu()
    deviation, mean = content_NV.std(-1, keepdim=True), content_NV.mean(-1, keepdim=True)
    for scale, shift in ((1.0, 0.0), (deviation, mean)):
        if torch.allclose(truth_NV * scale + shift, content_NV, atol=1e-2):
            return output_NV * scale + shift
    return None


def _units(number_N: Tensor, answer: Answer) -> Marked:
    """The guessed units of the hidden tokens, the true ones as notes, dots for what is seen between them."""
    guesses, truths = answer.output_NV.argmax(-1).tolist(), answer.truth_N.tolist()
    words, places = [], number_N.tolist()
    for (before, place), guess, truth in zip(pairwise([-1, *places]), guesses, truths, strict=True):
        if place > before + 1:
            words.append(("…", "seen", f"{place - before - 1} tokens seen"))
        words.append((str(guess), "right" if guess == truth else "wrong", str(truth)))
    right = sum(mark == "right" for _, mark, _ in words)
    return Marked(f"{type(answer.target).__name__}: {right} of {len(truths)} right", tuple(words))
