"""Tables of records and labels: one's own .csv and .tsv files, single files of GLUE, splits of FLIP."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mmm.core.errors import BadRecord, did_you_mean
from mmm.core.modality import Record
from mmm.evaluation.dataset import Dataset, Example, Given
from mmm.evaluation.opening import files, text

ENDINGS = (".csv", ".tsv")
RECORD = ("record", "sentence", "sentence1", "question1", "premise", "text", "sequence")
SECOND = ("record2", "sentence2", "question2", "hypothesis")
LABEL = ("label", "gold_label", "target", "score", "is_duplicate")
SIDE = ("set", "split")
TRAIN, TEST = ("train", "validation", "valid", "dev"), ("test",)


def read(
    given: Given,
    file: str | None = None,
    record: str | None = None,
    record2: str | None = None,
    label: str | None = None,
    literal: bool | None = None,
) -> Dataset:
    """Rows as examples: ``record`` (and ``record2``, where rows are pairs) with ``label``.

    Files are UTF-8, plain or .gz, parted by commas (.csv) or tabs (.tsv), in a folder, a .zip or a .tar. Columns are found by
    the names that GLUE and FLIP use; a file without a header has the columns record, label, or record, record2, label. What is
    training and what is test is told by the files' names (``train.*``, ``test.*``, else ``dev.*`` or ``validation.*``), by a
    column ``set`` (or ``split``) of ``train`` and ``test``, or by neither: then records are split by their keys.

    Args:
        given: where. file: the name of the one file that is read, in a folder or archive of several.
        record, record2, label: columns with other names.
        literal: quotes are letters; by default in .tsv files without a column ``record``, as GLUE writes them.

    Raises:
        BadRecord: naming the file and the line: no such column, rows of other lengths, an empty label, an unknown side.
    """
    examples: list[Example] = []
    for name, side, path, data in _tables(given, file):
        rows = _rows(name, text(path, data), literal)
        _, header = next(rows)
        columns = _columns(path, header, {"record": record, "record2": record2, "label": label})
        for line, cells in rows:
            examples.append(_example(given, path, line, cells, columns, len(header), side))
    if not examples:
        raise BadRecord(next(iter(given.paths.values())), None, "no labelled row in it")
    return Dataset(examples)


def _tables(given: Given, file: str | None) -> Iterator[tuple[str, bool | None, Path, bytes]]:
    """(name, whether it is the test set, path for errors, bytes) of every table."""

    def wanted(name: str) -> bool:
        return name.lower().endswith(ENDINGS) and not name.startswith("__MACOSX") and (file is None or _last(name) == file)

    for side, path in given.paths.items():
        found = [(name, data) for name, data in files(path, wanted)]
        stems = {PurePosixPath(name).stem.lower(): (name, data) for name, data in found}
        held = next((s for s in ("test", "dev", "validation", "valid") if s in stems), None)
        if not side and "train" in stems and held is not None:
            found = [stems["train"], stems[held]]
            sides: list[bool | None] = [False, True]
        elif len(found) > 1:
            names = ", ".join(sorted(_last(n) for n, _ in found))
            raise BadRecord(path, None, f"holds several tables ({names}): name one, or have them called train and test")
        else:
            sides = [None if not side else side == "test"]
        for (name, data), its_side in zip(found, sides, strict=True):
            yield name, its_side, path if path.is_file() and len(found) == 1 else path / name, data


def _last(name: str) -> str:
    return PurePosixPath(name).name


def _rows(name: str, content: str, literal: bool | None) -> Iterator[tuple[int, list[str]]]:
    """(line, cells), the header first; of a file without one, the header it would have."""
    tabs = name.lower().endswith(".tsv")
    csv.field_size_limit(2**26)

    def parsed(text: str, quoting: Any) -> Any:
        return csv.reader(io.StringIO(text, newline=""), delimiter="\t" if tabs else ",", quoting=quoting)

    rows = parsed(content.split("\n", 1)[0], csv.QUOTE_MINIMAL)
    try:
        known = {cell.strip().lower() for cell in next(rows, [])} & {*RECORD, *SECOND, *LABEL, *SIDE, "question"}
        if literal is None:
            literal = tabs and "record" not in known
        quoting = csv.QUOTE_NONE if literal else csv.QUOTE_MINIMAL
        rows = parsed(content, quoting)
        if not known:
            width = len(next(filter(None, parsed(content, quoting)), []))
            yield 0, ["record", "label"] if width == 2 else ["record", "record2", "label"]
        for cells in rows:
            if cells:
                yield rows.line_num, cells
    except csv.Error as error:
        raise BadRecord(name, None, f"line {rows.line_num}: {error}; is a quote left open?") from error


def _columns(path: Path, header: list[str], named: dict[str, str | None]) -> dict[str, int]:
    """Where record, record2, label and set stand."""
    names = [name.strip() for name in header]
    found: dict[str, int] = {}
    for role, usual in (("record", RECORD), ("record2", SECOND), ("label", LABEL), ("set", SIDE)):
        choices = (named[role],) if named.get(role) else usual
        column = next((names.index(c) for c in choices if c in names), None)
        if column is not None:
            found[role] = column
        elif role in ("record", "label") or named.get(role):
            raise BadRecord(
                path, None, f"no column {choices[0]!r} among {', '.join(names)}. {did_you_mean(str(choices[0]), names)}"
            )
    return found


def _example(
    given: Given, path: Path, line: int, cells: list[str], columns: dict[str, int], width: int, side: bool | None
) -> Example:
    if len(cells) != width:
        raise BadRecord(path, None, f"line {line} has {len(cells)} cells, the header {width}")
    records = [given.tokenizer.cell(cells[columns[c]], path, line) for c in ("record", "record2") if c in columns]
    label = cells[columns["label"]].strip()
    if not label:
        raise BadRecord(path, None, f"line {line}: its label is empty; a test set without labels cannot be used, give another")
    word = cells[columns["set"]].strip().lower() if "set" in columns and side is None else None
    if word is not None:
        if word not in TRAIN + TEST:
            raise BadRecord(path, None, f"line {line}: the set {word!r} is neither train nor test")
        side = word in TEST
    return Example(tuple(r.raw for r in records), "\0".join(map(_key, records)), label, side)


def _key(record: Record) -> str:
    """What is in the record: a cell that is a path says too little, another folder may hold another file of that name."""
    written = isinstance(record.raw, str) and record.key == record.raw.encode()
    return record.raw if written else record.key.hex()
