"""ECG5000 of the UCR archive: heart beats and their classes, as arrays."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from mmm.core.errors import BadRecord

CLASSES = {1: "normal", 2: "R-on-T", 3: "PVC", 4: "SP", 5: "unclassified"}
"""As the archive describes them: PVC, a premature ventricular beat; R-on-T, one that falls on the T wave; SP, a
supraventricular premature or ectopic beat."""

REPORTS = {
    "normal": "a beat in normal rhythm",
    "R-on-T": "an early beat on T",
    "PVC": "an early beat of ventricle",
    "SP": "an early beat above ventricle",
    "unclassified": "a beat of unknown kind",
}
"""The classes in words, equally many of them: their number must not tell the class."""

SAMPLES = 140
NOMINAL = 100
"""Samples a second that are written down. The archive stretched every beat to 140 samples, so there is no true rate."""


def prepare(folder: Path, source: Path) -> str:
    """Write ``beats.npz``, the signals and the classes by their names; and ``reports.csv``, a joint table of every beat, a file
    of its own in ``beats``, and its class in words.

    Args:
        folder: an empty folder to fill. source: ``ECG5000_TRAIN.txt`` or ``ECG5000_TEST.txt``, plain or gzip: the number of the
            class, then the samples.

    Raises:
        BadRecord: a line that is something else.
    """
    try:
        with gzip.open(source, "rt", encoding="ascii") if source.suffix == ".gz" else source.open(encoding="ascii") as file:
            lines = file.read().splitlines()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise BadRecord(source, None, f"cannot be read: {error}") from error
    sample_RM, labels = [], []
    for number, line in enumerate(lines, 1):
        words = line.replace(",", " ").split()
        try:
            label, *sample_M = map(float, words)
        except ValueError:
            label, sample_M = 0.0, []
        if label not in CLASSES or len(sample_M) != SAMPLES or not np.isfinite(sample_M).all():
            raise BadRecord(source, number, f"no class of 1 to 5 and {SAMPLES} samples")
        labels.append(CLASSES[int(label)])
        sample_RM.append(sample_M)
    if not labels:
        raise BadRecord(source, None, "no beat in it")
    signals, heads = np.array(sample_RM, np.float32), {"rate": np.array(NOMINAL), "leads": np.array(["ECG"])}
    np.savez(folder / "beats.npz", signals=signals, labels=np.array(labels), **heads)
    (folder / "beats").mkdir(exist_ok=True)
    rows = ["ecg,text"]
    for number, (sample_M, label) in enumerate(zip(signals, labels, strict=True)):
        np.savez(folder / "beats" / f"{number:04}.npz", signals=sample_M[None], **heads)
        rows.append(f"beats/{number:04}.npz,{REPORTS[label]}")
    (folder / "reports.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return f"{len(labels):,} beats"
