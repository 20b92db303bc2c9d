"""Tables of records and their labels: one's own .csv and .tsv files, the same for every modality.

Shape suffixes: none.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

from mmm.core.errors import BadRecord, did_you_mean
from mmm.core.modality import Record, Tokenizer

log = logging.getLogger("mmm")

SUFFIXES = (".csv", ".tsv")
RECORD, SECOND, LABEL = "record", "record2", "label"
MAX_CELL = 2**26
"""Characters of one cell: 64 Mi."""


@dataclass(frozen=True)
class Pair:
    """The raw value of a row that has two records: both, each with the label of the row."""

    first: Record
    second: Record


def parts(record: Record) -> tuple[Record, ...]:
    """The records of a row: two of a pair, else itself."""
    return (record.raw.first, record.raw.second) if isinstance(record.raw, Pair) else (record,)


def is_table(path: Path, tokenizer: Tokenizer) -> bool:
    """Whether a file is a table of records, by its ending. A tokenizer may read that ending itself (a column a value): then it
    is one where its header has the column ``record``."""
    name = path.name.lower()
    if not name.endswith(SUFFIXES):
        return False
    if not name.endswith(tuple(tokenizer.suffixes)):
        return True
    _, header = next(_lines(path), (0, []))
    return RECORD in (cell.strip() for cell in header)


def read_table(path: Path, tokenizer: Tokenizer) -> Iterator[Record]:
    """The rows of a table as records, numbered from 1 below the header.

    The header names the columns: ``record``, what the modality reads (a string, or the path of a file from the table's
    folder); ``label``, if there are any; ``record2``, if rows are pairs. Other columns are said aloud and left out. UTF-8; a
    cell may be quoted (RFC 4180), and must be where it holds the comma (or tab), a quote or a line's end; empty lines are none.
    A record's identity is its content alone, so rows may repeat it with other labels.

    Raises:
        BadRecord: naming the file, the row and its line: no such column, one that is named twice, a row of another length, an
            empty label, broken quotes, not UTF-8; and what the tokenizer says of a cell.
    """
    row = 0
    columns: dict[str, int] = {}
    for line, cells in _lines(path):
        if not columns:
            columns = _columns(path, line, cells)
            width = len(cells)
            continue
        row += 1
        if len(cells) != width:
            reason = f"has {len(cells)} cells, the header {width}; quote a cell that holds a separator"
            raise BadRecord(path, row, f"line {line}: {reason}")
        label = cells[columns[LABEL]] if LABEL in columns else None
        if label == "":
            raise BadRecord(path, row, f"line {line}: its label is empty")
        found = [replace(tokenizer.cell(cells[columns[c]], path, row), label=label) for c in (RECORD, SECOND) if c in columns]
        if len(found) == 2:
            yield Record(str(path), row, Pair(*found), b"\0\0".join(r.key for r in found), label)
        else:
            yield found[0]
    if row == 0:
        raise BadRecord(path, None, "no record in it: a table has a header line and a line a record")


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of every row that is not empty; the line is the row's last, where its cells hold line ends."""
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL))
    separator = "\t" if path.name.lower().endswith(".tsv") else ","
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, delimiter=separator, strict=True)
        try:
            for cells in rows:
                if cells:
                    yield rows.line_num, cells
        except UnicodeDecodeError as error:
            reason = f"not UTF-8 after line {rows.line_num} (byte 0x{error.object[error.start]:02x}); convert it"
            raise BadRecord(path, None, f"{reason}, as with iconv -f latin1 -t utf-8") from error
        except csv.Error as error:
            raise BadRecord(path, None, f"line {rows.line_num}: {error}; is a quote left open, or not doubled?") from error


def _columns(path: Path, line: int, header: Sequence[str]) -> dict[str, int]:
    """Where each column that is used stands."""

    def refuse(reason: str) -> NoReturn:
        raise BadRecord(path, None, f"line {line}, the header: {reason}")

    names = [name.strip() for name in header]
    for name in names:
        if names.count(name) > 1:
            refuse(f"the column {name!r} is named twice")
    if RECORD not in names:
        separator = "tabs" if path.name.lower().endswith(".tsv") else "commas"
        refuse(
            f"no column {RECORD!r} among {', '.join(map(repr, names))} (parted by {separator}). {did_you_mean(RECORD, names)}"
        )
    strange = [name for name in names if name not in (RECORD, SECOND, LABEL)]
    if strange:
        log.info("%s: not used: the columns %s", path, ", ".join(map(repr, strange)))
    return {name: i for i, name in enumerate(names) if name not in strange}
