"""How values lie in the signal files of WFDB records.

Source: signal(5) of the WFDB Applications Guide, https://physionet.org/physiotools/wag/signal-5.htm.

Shape suffixes: M values.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmm.core.errors import BadRecord

PACKED = 212
"""Two values of 12 bits in three bytes."""

TYPES = {16: ("<i2", 0), 61: (">i2", 0), 160: ("<u2", -(2**15)), 80: ("u1", -128), 32: ("<i4", 0)}
"""The type of a stored value, and what is added to it."""

GAPS = {16: -(2**15), 61: -(2**15), 160: -(2**15), 80: -128, 32: -(2**31), 24: -(2**23), PACKED: -2048}
"""The value that says there is none, by format: these are the formats that are read."""


def values_in(form: int, size: int) -> int:
    """Whole values in so many bytes."""
    return size * 2 // 3 if form == PACKED else size // _bytes(form)


def stored(path: Path, header: Path, form: int, offset: int, start: int, stop: int) -> np.ndarray:
    """value_M, int32: values ``start`` to ``stop`` of a signal file, in the order they lie in it.

    Args:
        path: of the signal file. header: of its record, for messages. form: number of the format. offset: bytes before the
            first value.

    Raises:
        BadRecord: the file cannot be read, or is shorter.
    """
    if form == PACKED:
        low, high, skip = start // 2 * 3, stop // 2 * 3 + stop % 2 * 2, start % 2
    else:
        low, high, skip = start * _bytes(form), stop * _bytes(form), 0
    try:
        with path.open("rb") as opened:
            opened.seek(offset + low)
            data = opened.read(high - low)
            size = opened.seek(0, 2)
    except OSError as error:
        raise BadRecord(header, None, f"its signal file {path.name} cannot be read: {error.strerror}") from error
    if len(data) < high - low:
        reason = f"its signal file {path.name} is truncated: {size} bytes, {offset + high} are needed"
        raise BadRecord(header, None, reason)
    return _unpacked(form, data)[skip : skip + stop - start]


def _bytes(form: int) -> int:
    """Of one value, where that is a whole number."""
    return 3 if form == 24 else np.dtype(TYPES[form][0]).itemsize


def _unpacked(form: int, data: bytes) -> np.ndarray:
    if form == PACKED:
        byte = np.frombuffer(data + bytes(-len(data) % 3), np.uint8).reshape(-1, 3).astype(np.int32)
        first, second = byte[:, 0] | (byte[:, 1] & 0x0F) << 8, byte[:, 2] | (byte[:, 1] & 0xF0) << 4
        value_M = np.stack([first, second], 1).reshape(-1)
        return np.where(value_M >= 2**11, value_M - 2**12, value_M)
    if form == 24:
        byte = np.frombuffer(data, np.uint8).reshape(-1, 3).astype(np.int32)
        value_M = byte[:, 0] | byte[:, 1] << 8 | byte[:, 2] << 16
        return np.where(value_M >= 2**23, value_M - 2**24, value_M)
    kind, shift = TYPES[form]
    return np.frombuffer(data, kind).astype(np.int32) + np.int32(shift)
