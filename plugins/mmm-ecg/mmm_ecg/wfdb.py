"""Records of the WFDB format: a header (.hea) and the signal files that it names.

Read here and not by the package ``wfdb``, which brings pandas, matplotlib, aiohttp, fsspec and requests along, and opens
whatever place a header names; here a signal file lies beside its header.

Source: header(5) of the WFDB Applications Guide, https://physionet.org/physiotools/wag/header-5.htm.

Shape suffixes: L leads, M samples, F frames, W values a frame.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import numpy as np

from mmm.core.errors import BadRecord

from ._formats import GAPS, stored, values_in
from .recording import Recording, chosen, lead_names

log = logging.getLogger("mmm")

MOST_VALUES = 2**27
"""Of all signals of one record: a day of twelve leads at 128 Hz."""

MILLIVOLTS = {"mv": 1.0, "uv": 1e-3, "\u00b5v": 1e-3, "\u03bcv": 1e-3, "v": 1e3}
"""Of one unit; signals of other units (pressure, respiration) are no leads."""

_COUNT = re.compile(r"[0-9]{1,12}")
_RATE = re.compile(r"[0-9]{1,9}(\.[0-9]{1,18})?")
_FORMAT = re.compile(r"([0-9]{1,4})(?:x([0-9]{1,4}))?(?::([0-9]{1,9}))?(?:\+([0-9]{1,12}))?")
_GAIN = re.compile(r"([-+.0-9eE]{1,32})(?:\(([-+]?[0-9]{1,10})\))?(?:/(\S+))?")


@dataclass(frozen=True)
class Signal:
    """One line of a header.

    Args:
        file: its signal file's name. form: number of the format. frame: samples a frame. skew: samples it is
            late. offset: bytes before the first. gain: values a unit. baseline: the value of 0. unit: as written.
        checksum: sum of all values modulo 2**16, if told.
    """

    name: str
    file: str
    form: int
    frame: int
    skew: int
    offset: int
    gain: float
    baseline: int
    unit: str
    checksum: int | None


@dataclass(frozen=True)
class Header:
    """What a header says. rate: frames a second. frames: how many. comments: its comment lines."""

    path: Path
    rate: Fraction
    frames: int
    signals: tuple[Signal, ...]
    comments: tuple[str, ...]

    def leads(self, wanted: Sequence[str]) -> list[int]:
        """Places of the signals that are leads: those that are named, or all that are voltages.

        Raises:
            BadRecord: there is none, or they have different rates, or begin at different times.
        """
        if not wanted:
            wanted = [s.name for s in self.signals if s.unit.lower() in MILLIVOLTS]
            if not wanted:
                units = ", ".join(sorted({s.unit for s in self.signals}))
                raise BadRecord(self.path, None, f"no signal of it is a voltage ({units}); name leads if one is meant")
        try:
            places = chosen([s.name for s in self.signals], wanted)
        except ValueError as error:
            raise BadRecord(self.path, None, str(error)) from None
        if len({self.signals[i].frame for i in places}) > 1:
            told = ", ".join(f"{self.signals[i].name} x{self.signals[i].frame}" for i in places)
            raise BadRecord(self.path, None, f"its leads have different rates ({told}); name those of one rate in `leads`")
        if late := [self.signals[i] for i in places if self.signals[i].skew]:
            reason = f"its lead {late[0].name} is late by {late[0].skew} samples, and is not read so; shift it with xform"
            raise BadRecord(self.path, None, reason)
        return places

    def values(self, start: int = 0, stop: int | None = None) -> list[np.ndarray]:
        """value_M of every signal in frames ``start`` to ``stop``, int32, as they are stored.

        Raises:
            BadRecord: a signal file that is not there, or is shorter than the header says.
        """
        stop = self.frames if stop is None else stop
        found: list[np.ndarray] = []
        for (file, form, offset), group in groupby(self.signals, key=lambda s: (s.file, s.form, s.offset)):
            frame_each = [s.frame for s in group]
            width = sum(frame_each)
            value_M = stored(self.path.parent / file, self.path, form, offset, start * width, stop * width)
            parts = np.split(value_M.reshape(stop - start, width), np.cumsum(frame_each)[:-1], axis=1)
            found += [part.reshape(-1) for part in parts]
        return found

    def recording(self, wanted: Sequence[str], start: int = 0, stop: int | None = None) -> Recording:
        """The leads of frames ``start`` to ``stop`` in millivolts; see ``leads`` and ``values``."""
        return self.physical(self.values(start, stop), wanted)

    def physical(self, values: Sequence[np.ndarray], wanted: Sequence[str]) -> Recording:
        """The leads among stored values, in millivolts."""
        places = self.leads(wanted)
        signals = [self.signals[i] for i in places]
        sample_LM = np.stack([_physical(s, values[i]) for s, i in zip(signals, places, strict=True)])
        return Recording(sample_LM, self.rate * signals[0].frame, tuple(s.name for s in signals))

    def check(self, values: Sequence[np.ndarray]) -> None:
        """Say aloud where the values of the whole record do not add up to the header's checksums."""
        for signal, value_M in zip(self.signals, values, strict=True):
            total = int(value_M.sum(dtype=np.int64))
            if signal.checksum is not None and (total - signal.checksum) % 2**16:
                log.warning(
                    "%s: the values of %s add up to %d (modulo 65536), the header says %d: one of the two was changed",
                    *(self.path, signal.name, total % 2**16, signal.checksum % 2**16),
                )


def _physical(signal: Signal, value_M: np.ndarray) -> np.ndarray:
    """sample_M in millivolts, or in the signal's own unit where that is no voltage; NaN where there is no value."""
    scale = MILLIVOLTS.get(signal.unit.lower(), 1.0) / signal.gain
    sample_M = ((value_M.astype(np.float64) - signal.baseline) * scale).astype(np.float32)
    sample_M[value_M == GAPS[signal.form]] = np.nan
    return sample_M


def header(path: Path) -> Header:
    """Read a header; those that were read last stay in memory.

    Raises:
        BadRecord: naming the file and the line: no header, a format or a kind of record that is not read, no such signal file.
    """
    try:
        modified = path.stat().st_mtime_ns
    except OSError as error:
        raise BadRecord(path, None, f"cannot be read: {error.strerror}") from error
    return _read(path, modified)


@lru_cache(maxsize=4096)
def _read(path: Path, modified: int) -> Header:
    lines = [(number, line.strip()) for number, line in enumerate(_text(path).splitlines(), 1)]
    comments = tuple(line.lstrip("#").strip() for _, line in lines if line.startswith("#"))
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    number, line = lines[0] if lines else (1, "")
    words = line.split()
    if len(words) < 2 or not _COUNT.fullmatch(words[1]):
        raise BadRecord(path, None, f"line {number}: {line[:40]!r} is no record line; expected NAME SIGNALS [RATE [SAMPLES]]")
    if "/" in words[0]:
        raise BadRecord(path, None, f"line {number}: a record of several segments; name the headers of the segments themselves")
    rate = (words[2] if len(words) > 2 else "250").partition("/")[0]  # behind it, the rate of a counter
    if not _RATE.fullmatch(rate) or not Fraction(rate):
        raise BadRecord(path, None, f"line {number}: {rate[:40]!r} is no rate; expected samples a second, above 0")
    count, rest = int(words[1]), lines[1:]
    if not 0 < count <= len(rest):
        raise BadRecord(path, None, f"line {number}: says {count} signals, {len(rest)} are described")
    signals = [_signal(path, *line, i) for i, line in enumerate(rest[:count], 1)]
    signals = [replace(s, name=name) for name, s in zip(lead_names(s.name for s in signals), signals, strict=True)]
    told = int(words[3]) if len(words) > 3 and _COUNT.fullmatch(words[3]) else 0
    frames = told or _frames(path, signals)
    values = frames * sum(s.frame for s in signals)
    if not 0 < values <= MOST_VALUES:
        raise BadRecord(path, None, f"{values} values; from 1 to {MOST_VALUES} are read")
    return Header(path, Fraction(rate), frames, tuple(signals), comments)


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadRecord(path, None, f"cannot be read: {error.strerror}") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")  # all but the comments is ASCII


def _signal(path: Path, number: int, line: str, i: int) -> Signal:
    """One signal line: FILE FORMAT [GAIN [BITS [ZERO [FIRST [CHECKSUM [BLOCK [NAME]]]]]]]."""
    words, where = line.split(None, 8), f"line {number}"
    match = _FORMAT.fullmatch(words[1]) if len(words) > 1 else None
    gain = _GAIN.fullmatch(words[2] if len(words) > 2 else "0")
    if match is None or gain is None:
        reason = f"{where}: {line[:60]!r} is no signal line; expected FILE FORMAT [GAIN[(BASELINE)][/UNIT] ...]"
        raise BadRecord(path, None, reason)
    form, frame, skew, offset = (int(word or usual) for word, usual in zip(match.groups(), (0, 1, 0, 0), strict=True))
    if form not in GAPS:
        choices = ", ".join(map(str, sorted(GAPS)))
        raise BadRecord(path, None, f"{where}: format {form} is not read; those that are: {choices}. Rewrite it with xform")
    if Path(words[0]).name != words[0] or "\\" in words[0]:
        raise BadRecord(path, None, f"{where}: its signal file is {words[0]!r}; expected one that lies beside the header")
    try:
        factor = float(gain[1]) or 200.0  # as the format says of 0
        zero = int(words[4]) if len(words) > 4 else 0
        checksum = int(words[6]) if len(words) > 6 else None
    except ValueError as error:
        raise BadRecord(path, None, f"{where}: {error}") from error
    baseline = zero if gain[2] is None else int(gain[2])
    if not np.isfinite(factor) or abs(baseline) > 2**31 or frame == 0:
        raise BadRecord(path, None, f"{where}: gain {gain[0]}, zero {zero} and {frame} samples a frame are out of range")
    name = words[8].strip() if len(words) > 8 else f"signal {i}"
    return Signal(name, words[0], form, frame, skew, offset, factor, baseline, gain[3] or "mV", checksum)


def _frames(path: Path, signals: Sequence[Signal]) -> int:
    """Frames in the first signal file, where the header does not say."""
    first = signals[0]
    file = path.parent / first.file
    if not file.is_file():
        raise BadRecord(path, None, f"its signal file {first.file} is not beside it")
    return values_in(first.form, file.stat().st_size - first.offset) // sum(s.frame for s in signals if s.file == first.file)
