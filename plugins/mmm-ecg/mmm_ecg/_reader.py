"""Recordings of raw values: in memory, rows of array files, WFDB records and stretches of them.

Shape suffixes: L leads, M samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mmm.core.errors import BadRecord
from mmm.core.modality import Record

from ._arrays import arrays
from .recording import Recording, chosen, lead_names
from .wfdb import Header, header


@dataclass(frozen=True)
class Place:
    """Where a recording lies: a row of an array file, or frames ``start`` to ``stop`` of a WFDB record (None: to its end)."""

    path: Path
    row: int | None = None
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True)
class Extent:
    """What is known of a recording before its samples are read. samples: of each lead. rate: samples a second."""

    leads: tuple[str, ...]
    samples: int
    rate: Fraction


class Reader:
    """Reads the leads that are wanted.

    A raw value is a ``Recording``; an array or tensor, (M,) or (L, M), at ``file_rate``; the path of a file of one record; or
    the ``Place`` of a record in a file.

    Args:
        leads, file_rate: see ``Ecg``.
    """

    suffixes = (".hea", ".npz", ".npy", ".csv")

    def __init__(self, leads: Sequence[str], file_rate: Fraction):
        self.wanted, self.file_rate = lead_names(leads), file_rate

    def extent(self, raw: Any) -> Extent:
        """Raises ValueError: no recording, or none of the leads that are wanted."""
        raw = self._resolved(raw)
        if isinstance(raw, Recording):
            names, samples, rate = raw.leads, raw.sample_LM.shape[1], raw.rate
        elif raw.row is None:
            head = header(raw.path)
            signals = [head.signals[i] for i in head.leads(self.wanted)]
            frames = (head.frames if raw.stop is None else raw.stop) - raw.start
            return Extent(tuple(s.name for s in signals), frames * signals[0].frame, head.rate * signals[0].frame)
        else:
            found = arrays(raw.path)
            names = self._named(found.leads, found.sample_RLM.shape[1])
            samples, rate = found.sample_RLM.shape[2], found.rate or self.file_rate
        return Extent(tuple(names[i] for i in chosen(names, self.wanted)), samples, rate)

    def read(self, raw: Any, start: int, stop: int) -> Recording:
        """Samples ``start`` to ``stop`` of the leads that are wanted, in the order of ``extent``."""
        raw, extent = self._resolved(raw), self.extent(raw)
        if isinstance(raw, Recording):
            sample_LM = raw.sample_LM[chosen(raw.leads, self.wanted), start:stop]
        elif raw.row is None:
            head = header(raw.path)
            frame = int(extent.rate / head.rate)
            first, last = start // frame, -(-stop // frame)  # whole frames can be read
            whole = head.recording(self.wanted, raw.start + first, raw.start + last)
            sample_LM = whole.sample_LM[:, start - first * frame : stop - first * frame]
        else:
            found = arrays(raw.path)
            names = self._named(found.leads, found.sample_RLM.shape[1])
            sample_LM = np.asarray(found.sample_RLM[raw.row])[chosen(names, self.wanted), start:stop]
        return Recording(sample_LM, extent.rate, extent.leads)

    def rows(self, path: Path) -> Iterator[Record]:
        """The rows of an array file."""
        found = arrays(path)
        names = self._named(found.leads, found.sample_RLM.shape[1])
        places, rate = chosen(names, self.wanted), found.rate or self.file_rate
        for row, sample_LM in enumerate(found.sample_RLM):
            held = {names[i]: np.ascontiguousarray(sample_LM[i], "<f4").tobytes() for i in places}
            yield Record(str(path), row, Place(path, row), _key(rate, held), found.labels[row] if found.labels else None)

    def stretches(self, path: Path, seconds: Fraction) -> Iterator[tuple[Record, Recording]]:
        """A WFDB record, cut into stretches of at most so many seconds, and what each of them holds."""
        head = header(path)
        values, places = head.values(), head.leads(self.wanted)
        head.check(values)
        whole = head.physical(values, self.wanted)
        frame, most = head.signals[places[0]].frame, max(1, int(seconds * head.rate))
        for start in range(0, head.frames, most):
            stop = min(start + most, head.frames)
            own = slice(start * frame, stop * frame)
            key = _key(head.rate, _held(head, places, [value_M[own] for value_M in values]))
            record = Record(str(path), f"at {float(start / head.rate):g} s", Place(path, None, start, stop), key)
            yield record, Recording(whole.sample_LM[:, own], whole.rate, whole.leads)

    def whole(self, path: Path) -> Record:
        """A WFDB record as one, whatever its length."""
        head = header(path)
        values, places = head.values(), head.leads(self.wanted)
        head.check(values)
        return Record(str(path), None, Place(path), _key(head.rate, _held(head, places, values)))

    def _resolved(self, raw: Any) -> Recording | Place:
        """A raw value as a recording, or as its place in a file."""
        if isinstance(raw, (Recording, Place)):
            return raw
        if isinstance(raw, (str, Path)):
            path = Path(raw)
            if path.suffix.lower() == ".hea":
                return Place(path)
            if (found := len(arrays(path).sample_RLM)) != 1:
                raise BadRecord(path, None, f"holds {found} records; one is needed here")
            return Place(path, 0)
        sample = np.asarray(raw.detach().cpu() if isinstance(raw, Tensor) else raw)
        if sample.dtype.kind not in "fiu" or sample.ndim not in (1, 2) or sample.size == 0:
            choices = "a Recording, numbers (samples,) or (leads, samples), the path of a file"
            raise ValueError(f"{type(raw).__name__}, {sample.dtype} of shape {sample.shape}; choices: {choices}")
        sample_LM = sample if sample.ndim == 2 else sample[None]
        return Recording(sample_LM, self.file_rate, self._named(None, len(sample_LM)))

    def _named(self, leads: tuple[str, ...] | None, count: int) -> tuple[str, ...]:
        """The names of so many leads. Raises ValueError where neither the file nor the recipe says them."""
        if leads is not None:
            return leads
        if len(self.wanted) == count:
            return self.wanted
        if count == 1 and not self.wanted:
            return ("ECG",)
        raise ValueError(f"{count} leads without names; name all of them, in their order, in `leads`")


def _held(head: Header, places: Sequence[int], values: Sequence[np.ndarray]) -> dict[str, bytes]:
    """What some signals of a record hold, by their names."""
    signals = [(head.signals[i], values[i]) for i in places]
    return {s.name: f"{s.gain} {s.baseline} {s.unit}".encode() + value_M.astype("<i4").tobytes() for s, value_M in signals}


def _key(rate: Fraction, held: Mapping[str, bytes]) -> bytes:
    """The identity of a recording: its rate, and its leads in any order."""
    digest = hashlib.blake2b(str(rate).encode(), digest_size=16)
    for name in sorted(held):
        digest.update(f"\0{name}\0{len(held[name])}\0".encode() + held[name])
    return digest.digest()
