"""Texts in files and in records: stretches of plain text, JSON lines, columns of tables, one text or two."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmm.core.errors import BadRecord
from mmm.core.modality import Record
from mmm.modalities._ids import lines


def fault_of(text: Any) -> str | None:
    """Why this is no text, if it is none."""
    if not isinstance(text, str):
        return f"the text is {type(text).__name__}, not a string"
    if not text.strip():
        return "the text is empty"
    if "\0" in text:
        return f"a NUL character at place {text.index(chr(0))} of the text"
    try:
        text.encode()
    except UnicodeEncodeError as e:
        return f"half of a surrogate pair ({text[e.start]!a}) at place {e.start} of the text"
    return None


def pieces(path: Path, words: int) -> Iterator[str]:
    """A .txt file as pieces of at most ``words`` words: paragraphs; of longer ones sentences and lines, at worst words."""
    paragraph, count = "", 0
    for _, line in lines(path):
        if line.strip():
            paragraph += line + "\n"
            count += len(line.split())
            if count <= words:
                continue
            for sentence in re.split(r"(?<=[.!?]\s)|(?<=\n)", paragraph):
                parts = re.findall(r"\S+\s*|\s+", sentence)
                yield from ("".join(parts[i : i + words]) for i in range(0, len(parts), words))
        else:
            yield paragraph + "\n"
        paragraph, count = "", 0
    yield paragraph


def stretches(short: Iterable[str], words: int) -> Iterator[str]:
    """Neighbouring pieces together until they have ``words`` words; a shorter rest joins the last stretch."""
    last, growing, count = "", "", 0
    for piece in short:
        growing += piece
        count += len(piece.split())
        if count >= words:
            if last:
                yield last.strip()
            last, growing, count = growing, "", 0
    if (last + growing).strip():
        yield (last + growing).strip()


def json_rows(path: Path, field: str) -> Iterator[tuple[int, Any, Any]]:
    """(line number, text, label) of a file of JSON lines."""
    for number, line in lines(path):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as e:
            raise BadRecord(path, number, f"no JSON object: {e}" if line.strip() else "an empty line") from e
        if not isinstance(row, dict):
            raise BadRecord(path, number, f"a JSON {type(row).__name__}, not an object")
        if field not in row:
            raise BadRecord(path, number, f"has no key {field!r}; its keys: {', '.join(row) or 'none'}")
        yield number, row[field], row.get("label")


def table_rows(path: Path, field: str) -> Iterator[tuple[int, Any, Any]]:
    """(row number, text, label) of a Parquet, Arrow or Feather file."""
    import pyarrow
    from pyarrow import ipc, parquet

    try:
        with pyarrow.OSFile(str(path)) as file:
            if path.suffix.lower() == ".parquet":
                table = parquet.ParquetFile(file)
                names = table.schema_arrow.names
                batches = table.iter_batches(columns=[n for n in (field, "label") if n in names])
            else:
                try:
                    reader = ipc.open_file(file)
                    batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
                except pyarrow.ArrowInvalid:  # the other of Arrow's two formats, which Hugging Face datasets writes
                    file.seek(0)
                    reader = batches = ipc.open_stream(file)
                names = reader.schema.names
            if field not in names:
                raise BadRecord(path, None, f"has no column {field!r}; its columns: {', '.join(names)}")
            number = 0
            for batch in batches:
                labels = batch.column("label") if "label" in names else [None] * batch.num_rows
                for text, label in zip(batch.column(field), labels, strict=True):
                    try:
                        yield number, text.as_py(), label if label is None else label.as_py()
                    except UnicodeDecodeError as e:
                        raise BadRecord(path, number, f"byte {e.start} of the text is not UTF-8") from e
                    number += 1
    except pyarrow.ArrowException as e:
        raise BadRecord(path, None, f"cannot be read: {e}") from e


def texts_of(raw: str | tuple[str, str]) -> tuple[str, ...]:
    """One text or two."""
    return tuple(raw) if isinstance(raw, (list, tuple)) and len(raw) == 2 else (raw,)


class Raws:
    """The texts of records, as often as they are asked for and never all at once."""

    def __init__(self, records: Sequence[Record]):
        self.records = records

    def __iter__(self) -> Iterator[str]:
        return (record.raw for record in self.records)
