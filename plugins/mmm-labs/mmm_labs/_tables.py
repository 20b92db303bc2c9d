"""Tables whose columns are codes and whose rows are records: .csv and .arff.

Shape suffixes: none.
"""

from __future__ import annotations

import csv
import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmm.core.errors import BadRecord

from ._panel import Category

MISSING = frozenset({"", "?", "na", "n/a", "nan", "null"})
"""What a cell without a value holds, in any case."""

MAX_BYTES = 2**30
"""Of a file, unpacked: 1 GiB."""

_WORD = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^\s,{}]+)""")


def rows_of(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """(number from 1, {column: cell}) of every row; a cell that is missing is left out of it.

    Raises:
        BadRecord: naming the file and the line: not UTF-8, no header, a column named twice, a row of another length.
    """
    lines = _text(path).splitlines()
    yield from _arff(path, lines) if ".arff" in path.name.lower() else _csv(path, lines)


def _text(path: Path) -> str:
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadRecord(path, None, f"broken gzip file: {error}") from error
    if len(data) > MAX_BYTES:
        raise BadRecord(path, None, f"more than {MAX_BYTES} bytes unpacked; part it")
    if b"\0" in data:
        raise BadRecord(path, None, f"byte {data.index(0)}: a NUL byte; no text, or not UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRecord(path, None, f"byte {error.start}: not UTF-8; convert it, as with iconv -f latin1 -t utf-8") from error


def _csv(path: Path, lines: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(lines, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        _check_names(path, header)
        row = 0
        for cells in reader:
            if cells:
                row += 1
                yield row, _row(path, row, f"line {reader.line_num}", header, cells)
    except csv.Error as error:
        raise BadRecord(path, None, f"line {reader.line_num}: {error}; is a quote left open, or a cell too long?") from error


def _arff(path: Path, lines: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Dense ARFF; a nominal attribute holds categories, whatever they look like."""
    names: list[str] = []
    nominal: set[str] = set()
    row, data = 0, False
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith("%"):
            continue
        where = f"line {number}"
        if data:
            if line.startswith("{"):
                raise BadRecord(path, None, f"{where}: sparse ARFF is not read; write it as a dense one or as .csv")
            row += 1
            cells = _row(path, row, where, names, _words(line))
            yield row, {name: Category(cell) if name in nominal else cell for name, cell in cells.items()}
        elif line.lower().startswith("@attribute"):
            name, kind = _attribute(path, where, line[len("@attribute") :].strip())
            names.append(name)
            if kind.startswith("{"):
                nominal.add(name)
            elif kind.lower().split()[0] not in ("numeric", "real", "integer", "string"):
                raise BadRecord(path, None, f"{where}: attributes are numeric or {{a, list}}, not {kind!r}")
        elif line.lower().startswith("@data"):
            _check_names(path, names)
            data = True
        elif not line.lower().startswith("@relation"):
            raise BadRecord(path, None, f"{where}: {line[:40]!r} where @relation, @attribute or @data should stand")


def _attribute(path: Path, where: str, text: str) -> tuple[str, str]:
    """(name, kind)."""
    match = _WORD.match(text)
    kind = text[match.end() :].strip() if match else ""
    if match is None or not kind:
        raise BadRecord(path, None, f"{where}: expected @attribute NAME KIND")
    return _word(match), kind


def _words(line: str) -> list[str]:
    """The cells of a row, commas between them; quotes taken off."""
    cells, start = [], 0
    while True:
        match = re.compile(r"\s*").match(line, start)
        start = match.end() if match else start
        quoted = _WORD.match(line, start) if line[start : start + 1] in ("'", '"') else None
        end = line.find(",", quoted.end() if quoted else start)
        cells.append(_word(quoted) if quoted else line[start : end if end >= 0 else None].strip())
        if end < 0:
            return cells
        start = end + 1


def _word(match: re.Match[str]) -> str:
    return re.sub(r"\\(.)", r"\1", next(group for group in match.groups() if group is not None))


def _check_names(path: Path, names: Sequence[str]) -> None:
    if not names:
        raise BadRecord(path, None, "no header: its first line names the columns")
    for name in names:
        if not name:
            raise BadRecord(path, None, "a column of the header has no name")
        if names.count(name) > 1:
            raise BadRecord(path, None, f"the column {name!r} is named twice")
    if all(re.fullmatch(r"[-+.\deE]+", name) for name in names):
        raise BadRecord(path, None, f"its first line is numbers ({names[0]}, ...), but must name the columns")


def _row(path: Path, row: int, where: str, names: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    if len(cells) != len(names):
        raise BadRecord(path, row, f"{where}: has {len(cells)} cells, the header {len(names)}; quote a cell that holds a comma")
    return {name: cell.strip() for name, cell in zip(names, cells, strict=True) if cell.strip().lower() not in MISSING}
