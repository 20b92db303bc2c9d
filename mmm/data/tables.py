"""Tables of one's own, .csv and .tsv, the same for every modality: records and their labels, or records of several modalities.

Shape suffixes: none.
"""

from __future__ import annotations

import csv
import difflib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mmm.core.errors import BadRecord
from mmm.core.modality import Record, Tokenizer

log = logging.getLogger("mmm")

SUFFIXES = (".csv", ".tsv")
SEPARATORS = {";": "semicolons", "\t": "tabs", ",": "commas", "|": "bars"}
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
    for line, row, cells in _rows(path, _of_one_modality):
        label = cells.get(LABEL)
        if label == "":
            raise BadRecord(path, row, f"line {line}: its label is empty")
        found = [replace(tokenizer.cell(cells[c], path, row), label=label) for c in (RECORD, SECOND) if c in cells]
        if len(found) == 2:
            yield Record(str(path), row, Pair(*found), b"\0\0".join(r.key for r in found), label)
        else:
            yield found[0]


def read_joint(path: Path, tokenizers: Mapping[str, Tokenizer]) -> Iterator[dict[str, Record]]:
    """The rows of a table whose columns are modalities: each row is one record that holds all of them.

    A cell is what its modality reads (a string, or the path of a file from the table's folder); an empty one: this record
    lacks that modality. All else is as in ``read_table``.

    Raises:
        BadRecord: naming the file, the row and its line: fewer than two columns that are modalities, an empty row, and what
            ``read_table`` refuses.
    """

    def columns(names: Sequence[str]) -> list[str]:
        found = [name for name in names if name in tokenizers]
        if len(found) < 2:
            raise ValueError(
                f"a joint table needs two columns or more that are modalities, of {', '.join(tokenizers)}; "
                f"its columns are {', '.join(map(repr, names))}"
            )
        return found

    for line, row, cells in _rows(path, columns):
        record = {name: tokenizers[name].cell(cell, path, row) for name, cell in cells.items() if cell}
        if not record:
            raise BadRecord(path, row, f"line {line}: all its cells are empty")
        yield record


def _rows(path: Path, columns: Callable[[Sequence[str]], Sequence[str]]) -> Iterator[tuple[int, int, dict[str, str]]]:
    """(line, row, cells of the columns in use) below the header; ``columns`` names those in use, or says what is wrong."""
    row = 0
    used: dict[str, int] = {}
    for line, cells in _lines(path):
        if not used:
            used, width = _header(path, line, cells, columns), len(cells)
            continue
        row += 1
        if len(cells) != width:
            reason = f"has {len(cells)} cells, the header {width}; quote a cell that holds a separator"
            raise BadRecord(path, row, f"line {line}: {reason}")
        yield line, row, {name: cells[i] for name, i in used.items()}
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


def _header(path: Path, line: int, header: Sequence[str], columns: Callable[[Sequence[str]], Sequence[str]]) -> dict[str, int]:
    """Where each column that is used stands; the others are said aloud."""
    names = [name.strip() for name in header]
    try:
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"the column {name!r} is named twice")
        used = columns(names)
    except ValueError as error:
        separator = "tabs" if path.name.lower().endswith(".tsv") else "commas"
        other = next((word for mark, word in SEPARATORS.items() if len(names) == 1 and mark in names[0]), None)
        cause = f"; it looks parted by {other}: save it with {separator} between the cells" if other else ""
        raise BadRecord(path, None, f"line {line}, the header (parted by {separator}): {error}{cause}") from None
    strange = [name for name in names if name not in used]
    if strange:
        log.info("%s: not used: the columns %s", path, ", ".join(map(repr, strange)))
    return {name: names.index(name) for name in used}


def _of_one_modality(names: Sequence[str]) -> list[str]:
    """The columns that a table of one modality's records may have."""
    if RECORD not in names:
        words = [name for name in names if name.isidentifier()]
        near = [w for w in words if w.lower() == RECORD] or difflib.get_close_matches(RECORD, words, 1)
        rename = f"; if {near[0]!r} is it, call it {RECORD!r}" if near else ""
        raise ValueError(f"no column {RECORD!r} among {', '.join(map(repr, names))}{rename}")
    return [name for name in (RECORD, SECOND, LABEL) if name in names]
