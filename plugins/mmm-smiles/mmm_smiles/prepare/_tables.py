"""Columns of published tables."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from pathlib import Path

from mmm.core.errors import BadRecord

from mmm_smiles._atoms import split


def columns(source: Path, *names: str) -> Iterator[tuple[str, ...]]:
    """The cells of these columns, row by row, plain or gzip. Raises BadRecord where the table has no such column."""
    opened = gzip.open if source.suffix == ".gz" else open
    with opened(source, "rt", encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        for name in names:
            if name not in (rows.fieldnames or ()):
                raise BadRecord(source, None, f"has no column {name!r}; its columns: {', '.join(rows.fieldnames or ())}")
        for row in rows:
            yield tuple(row[name].strip() for name in names)


def readable(smiles: str) -> bool:
    """Whether a string is a SMILES by its characters."""
    try:
        return bool(split(smiles))
    except ValueError:
        return False
