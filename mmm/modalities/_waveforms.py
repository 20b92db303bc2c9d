"""Waveforms in files and in memory, one channel at one rate: what every reader of sound shares.

Shape suffixes: L samples, C channels.
"""

from __future__ import annotations

import hashlib
import logging
import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmm.core.draw import Draw
from mmm.core.errors import BadRecord
from mmm.core.modality import Record, Tokenizer

if TYPE_CHECKING:
    import soundfile

log = logging.getLogger("mmm")

FIT_RECORDS = 2000
"""Records the mean and deviation are taken of, where there are more."""
MAX_DECODED = 2**26
"""Samples decoded at once, over all channels: 256 MiB."""
IN_MEMORY = "a waveform in memory"
"""Named in errors where there is no file."""
LOUDEST = 1e6
"""A sample beyond this is no sound (full scale is 1; files of unscaled 16-bit numbers reach 32768)."""


class SoundTokenizer(Tokenizer):
    """Reads sound. A raw value is the path of a sound file, or (waveform, rate) with floats (L,) or (1, L) in -1..1.

    Channels are averaged into one, and what has another rate is resampled (a windowed sinc with 6 zero crossings). A
    record that is longer than the tokenizer reads is cropped before it is decoded, at a start that ``draw`` chooses;
    without a draw, its beginning is taken.

    Args:
        rate: samples a second that everything is resampled to. limit: what sets the longest record, for people.
    """

    suffixes = (".wav", ".flac", ".ogg", ".mp3")

    def __init__(self, rate: int, limit: str):
        self.rate, self.limit = rate, limit
        self.said_crop = False

    @abstractmethod
    def _tokens(self, samples: int) -> int:
        """Tokens of so many samples at the tokenizer's rate."""

    @abstractmethod
    def _most(self, rate: int) -> int:
        """Samples of the longest record at another rate."""

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

    def waveform(self, raw: Any, draw: Draw | None) -> tuple[Tensor, bool]:
        """(sample_L, whether a part was left out), one channel at the tokenizer's rate. Raises BadRecord."""
        import torchaudio.functional as AF

        if isinstance(raw, tuple):
            path: Any = IN_MEMORY
            wave_L, rate = _in_memory(raw)
            frames = len(wave_L)
            crop = self._crop(frames, rate, draw)
            samples = self._resampled(path, crop, rate)
            wave_L = wave_L[crop].float()
        elif isinstance(raw, (str, Path)):
            path = raw
            with _opened(raw) as file:
                rate, frames = file.samplerate, file.frames
                crop = self._crop(frames, rate, draw)
                samples = self._resampled(path, crop, rate)
                wave_L = _decoded(file, path, crop)
        else:
            raise BadRecord(IN_MEMORY, None, f"a {type(raw).__name__}; choices: the path of a sound file, (waveform, rate)")
        if not bool(wave_L.abs().max() <= LOUDEST):  # false for NaN too
            raise BadRecord(path, None, f"holds samples that are no numbers, or beyond {LOUDEST:g}")
        return AF.resample(wave_L, rate, self.rate)[:samples], crop.stop - crop.start < frames

    def learnable(self, records: Sequence[Record], owner: str) -> Iterator[Tensor]:
        """sample_L of the records, or of ``FIT_RECORDS`` of them chosen by their keys, to take statistics of.

        A record that cannot be read is left out aloud.
        """
        chosen = sorted(records, key=lambda r: r.sample)[:FIT_RECORDS]
        if len(chosen) < len(records):
            log.warning("%s: mean and deviation are taken of %d of the %d records", owner, len(chosen), len(records))
        for record in chosen:
            try:
                yield self.waveform(record.raw, None)[0]
            except BadRecord as e:
                log.warning("%s: left out of mean and deviation: %s", owner, e)

    def _crop(self, frames: int, rate: int, draw: Draw | None) -> slice:
        """Which of a record's own samples are read."""
        most = self._most(rate)
        if frames <= most:
            return slice(0, frames)
        if not self.said_crop:
            log.warning("a sound of %.1f s is cropped to %s; this is said once", frames / rate, self.limit)
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


def _in_memory(raw: tuple[Any, int]) -> tuple[Tensor, int]:
    """(sample_L, rate). Raises BadRecord."""
    if len(raw) != 2:
        raise BadRecord(IN_MEMORY, None, f"{len(raw)} values, where a waveform and its rate are needed")
    wave_L, rate = torch.as_tensor(raw[0]), int(raw[1])
    if wave_L.ndim == 2 and len(wave_L) == 1:
        wave_L = wave_L[0]
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
        raise BadRecord(path, None, f"{frames} samples of {file.channels} channels are too many; let shorter records be read")
    try:
        file.seek(crop.start)
        wave = file.read(frames, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as e:
        raise BadRecord(path, None, f"cannot be decoded: {e}") from e
    if len(wave) < frames:
        decoded = crop.start + len(wave)
        raise BadRecord(path, None, f"is truncated: {file.frames} samples by its header, {decoded} could be decoded")
    wave_LC = torch.from_numpy(wave)
    return wave_LC[:, 0] if file.channels == 1 else wave_LC.mean(1)
