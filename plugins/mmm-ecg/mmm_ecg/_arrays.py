"""Arrays of many records in one file: .npz, .npy, .csv.

Shape suffixes: R records, L leads, M samples.
"""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np

from mmm.core.errors import BadRecord

from .recording import lead_names

MOST_BYTES = 2**33
"""Of one file, unpacked: 8 GiB."""
MOST_TEXT = 2**30
"""Of one .csv file: 1 GiB."""
LABELS = ("label", "class")
"""Columns of a .csv, in any case, that are no samples."""


@dataclass(frozen=True)
class Arrays:
    """The records of a file.

    Args:
        sample_RLM: floats; NaN where a lead has a gap. rate, leads, labels: None where the file does not say.
    """

    sample_RLM: np.ndarray
    rate: Fraction | None = None
    leads: tuple[str, ...] | None = None
    labels: tuple[str, ...] | None = None


def arrays(path: Path) -> Arrays:
    """The records of a file; the last few files stay in memory.

    - ``.npz``: ``signals`` (R, L, M), or (R, M) of one lead; and ``rate``, ``leads`` (L names), ``labels`` (R), or none
      of these.
    - ``.npy``: the signals alone.
    - ``.csv``: a record a row, a sample of one lead a column; a header may name the columns, and ``label`` or ``class`` is none
      of the samples. An empty cell is a gap.

    Raises:
        BadRecord: naming the file, and the row where there is one.
    """
    try:
        modified = path.stat().st_mtime_ns
    except OSError as error:
        raise BadRecord(path, None, f"cannot be read: {error.strerror}") from error
    return _read(str(path), modified)


@lru_cache(maxsize=4)
def _read(name: str, modified: int) -> Arrays:
    path = Path(name)
    if path.suffix.lower() == ".csv":
        return _csv(path)
    try:
        found = _npz(path) if path.suffix.lower() == ".npz" else {"signals": np.load(path, mmap_mode="r", allow_pickle=False)}
    except BadRecord:
        raise
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, KeyError, NotImplementedError, zlib.error) as error:
        raise BadRecord(path, None, f"no file of plain arrays: {error}") from error
    if "signals" not in found:
        raise BadRecord(path, None, f"holds no array `signals`, but {', '.join(found) or 'nothing'}")
    sample = found["signals"]
    if not isinstance(sample, np.ndarray) or sample.ndim not in (2, 3) or sample.size == 0 or sample.dtype.kind not in "fiu":
        what = f"{getattr(sample, 'dtype', type(sample).__name__)} of shape {getattr(sample, 'shape', ())}"
        raise BadRecord(path, None, f"signals are {what}; expected numbers (records, leads, samples) or (records, samples)")
    sample_RLM = sample if sample.ndim == 3 else sample[:, None]
    return Arrays(sample_RLM, *_facts(path, found, sample_RLM.shape))


def _npz(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as members:
        size = sum(member.file_size for member in members.infolist())
    if size > MOST_BYTES:
        raise BadRecord(path, None, f"{size} bytes unpacked are more than {MOST_BYTES}; write several files")
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def _facts(
    path: Path, found: dict[str, np.ndarray], shape: Sequence[int]
) -> tuple[Fraction | None, tuple[str, ...] | None, tuple[str, ...] | None]:
    """(rate, leads, labels) that stand beside the signals."""
    for key in found:
        if key not in ("signals", "rate", "leads", "labels"):
            raise BadRecord(path, None, f"holds an array {key!r}; expected signals, rate, leads, labels")
    rate, leads, labels = (found.get(key) for key in ("rate", "leads", "labels"))
    if rate is not None and (rate.size != 1 or rate.dtype.kind not in "fiu" or not 0 < float(rate.item()) < 1e9):
        raise BadRecord(path, None, f"rate is {rate!r:.40}; expected one number, samples a second")
    for key, array, count in (("leads", leads, shape[1]), ("labels", labels, shape[0])):
        if array is not None and (array.shape != (count,) or array.dtype.kind not in "Uiu"):
            what = f"{key} are {array.dtype} of shape {array.shape}"
            raise BadRecord(path, None, f"{what}; expected {count} words or whole numbers")
    return (
        None if rate is None else Fraction(str(rate.item())),
        None if leads is None else lead_names(map(str, leads.tolist())),
        None if labels is None else tuple(map(str, labels.tolist())),
    )


def _csv(path: Path) -> Arrays:
    if path.stat().st_size > MOST_TEXT:
        raise BadRecord(path, None, f"more than {MOST_TEXT} bytes; write an .npz")
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
        rows = [row for row in csv.reader(lines, strict=True) if row]
    except UnicodeDecodeError as error:
        raise BadRecord(path, None, f"byte {error.start}: not UTF-8; convert it, as with iconv -f latin1 -t utf-8") from error
    except csv.Error as error:
        raise BadRecord(path, None, f"{error}; is a quote left open, or a cell too long?") from error
    if not rows:
        raise BadRecord(path, None, "no record in it")
    names = [cell.strip().lower() for cell in rows[0]]
    headed = any(not _is_number(name) for name in names)
    at = next((i for i, name in enumerate(names) if name in LABELS), None) if headed else None
    rows = rows[1:] if headed else rows
    sample_RM, labels = [], []
    for number, row in enumerate(rows, 1):
        if len(row) != len(names):
            reason = f"has {len(row)} cells, the first line {len(names)}; records of one file are equally long"
            raise BadRecord(path, number, reason)
        labels.append(row[at].strip() if at is not None else "")
        if at is not None and not labels[-1]:
            raise BadRecord(path, number, "its label is empty")
        cells = [cell.strip() for i, cell in enumerate(row) if i != at]
        try:
            sample_RM.append([float(cell) if cell else np.nan for cell in cells])
        except ValueError as error:
            raise BadRecord(path, number, f"{error}; a cell is a sample, or empty") from None
    if not sample_RM or not sample_RM[0]:
        raise BadRecord(path, None, "no record in it: a header needs a line of samples below it")
    return Arrays(np.array(sample_RM, np.float32)[:, None], None, None, tuple(labels) if at is not None else None)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return not text  # an empty cell is a gap
    return True
