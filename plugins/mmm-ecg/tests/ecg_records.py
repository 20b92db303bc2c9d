"""Recordings for the tests: signals with beats in them, and files of every kind that is read."""

from fractions import Fraction
from pathlib import Path

import numpy as np
from mmm_ecg.prepare.mitdb_208 import packed
from mmm_ecg.recording import Recording

from mmm.core.modality import Record


def beats(leads=("II",), seconds=4.0, rate=250, seed=0, gap=None) -> Recording:
    """A beat every 0.8 s or so, in every lead with another height, and some noise. ``gap``: (lead, first sample, last)."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    phase = (time + rng.uniform(0, 0.8)) % rng.uniform(0.7, 0.9)
    shape = np.exp(-(((phase - 0.3) / 0.02) ** 2)) + 0.3 * np.exp(-(((phase - 0.55) / 0.05) ** 2))
    sample_LM = np.stack([height * shape for height in rng.uniform(0.5, 1.5, len(leads))])
    sample_LM = (sample_LM + rng.normal(0, 0.02, sample_LM.shape)).astype(np.float32)
    if gap:
        lead, first, last = gap
        sample_LM[lead, first:last] = np.nan
    return Recording(sample_LM, Fraction(rate), tuple(leads))


def records(raws) -> list[Record]:
    return [Record("memory", i, raw, bytes([i])) for i, raw in enumerate(raws)]


def write_wfdb(folder: Path, name: str, recording: Recording, form: int = 16, gain: float = 1000, comments=()) -> Path:
    """A WFDB record in one signal file; NaN becomes the format's gap. Returns the header's path."""
    value_ML = np.round(np.nan_to_num(recording.sample_LM.T * gain, nan=0)).astype(np.int64)
    gaps = {16: -(2**15), 212: -2048, 80: -128, 24: -(2**23), 32: -(2**31), 61: -(2**15), 160: -(2**15)}
    value_ML[np.isnan(recording.sample_LM.T)] = gaps[form]
    value_M = value_ML.reshape(-1)
    if form == 212:
        data = packed(np.pad(value_M, (0, len(value_M) % 2)))
    elif form == 24:
        data = b"".join(int(v & 0xFFFFFF).to_bytes(3, "little") for v in value_M)
    else:
        kind, shift = {16: ("<i2", 0), 61: (">i2", 0), 160: ("<u2", 2**15), 80: ("u1", 128), 32: ("<i4", 0)}[form]
        data = (value_M + shift).astype(kind).tobytes()
    (folder / f"{name}.dat").write_bytes(data)
    lines = [f"{name} {len(recording.leads)} {float(recording.rate):g} {len(value_ML)}"]
    for i, lead in enumerate(recording.leads):
        checksum = (int(value_ML[:, i].sum()) + 2**15) % 2**16 - 2**15
        lines.append(f"{name}.dat {form} {gain:g}(0)/mV 12 0 {value_ML[0, i]} {checksum} 0 {lead}")
    path = folder / f"{name}.hea"
    path.write_text("\n".join([*lines, *(f"# {comment}" for comment in comments), ""]))
    return path


def write_npz(folder: Path, count: int = 60, classes=("wide", "narrow"), samples: int = 80, seed: int = 0) -> Path:
    """Labelled records of one lead: a wide bump or a narrow one."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, count)
    place = rng.uniform(20, 60, count)[:, None]
    width = np.where(labels == classes[0], 8, 2)[:, None]
    signals = np.exp(-(((np.arange(samples) - place) / width) ** 2)) + rng.normal(0, 0.05, (count, samples))
    path = folder / "beats.npz"
    np.savez(path, signals=signals.astype(np.float32), rate=np.array(100), leads=np.array(["II"]), labels=labels)
    return path
