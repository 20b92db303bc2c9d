"""Waveforms in files and in memory, and the pieces made of them.

Shape suffixes: R content rows, N tokens of this modality, L samples, F frames, M mel bands.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from mmm.core.draw import Draw
from mmm.core.errors import BadRecipe, BadRecord
from mmm.core.modality import Assets, Record, Tokenizer
from mmm.core.tokens import Piece
from mmm.nn.spectral import LogMel
from mmm.nn.waveform import KERNELS, STRIDES

if TYPE_CHECKING:
    import soundfile

log = logging.getLogger("mmm")

FrontEnd = Literal["logmel", "waveform"]
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
