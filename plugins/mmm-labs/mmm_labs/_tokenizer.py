"""One token a value.

Shape suffixes: R content rows, N tokens (one a row).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmm.core.draw import Draw
from mmm.core.errors import BadRecord
from mmm.core.modality import Record, Tokenizer
from mmm.core.tokens import Piece

from ._panel import OTHER, Category, Panel, number_of
from ._tables import MISSING, rows_of

log = logging.getLogger("mmm")

RECORD = "record"
"""A column whose cells are whole records, written as ``TSH=1.3; sex=F``."""


class LabTokenizer(Tokenizer):
    """(item, deviations from the mean) of every value of a record, in the order they come in, which means nothing.

    ``raw`` is a mapping of codes to numbers or words; None, NaN and the empty text are missing and make no token.

    Args:
        shown: the code is seen where the value is hidden: it is the token's position; else positions are 0.
        label, ignore, categories: see ``Labs``.

    Attributes:
        panel: what was learned of the training records; None before.
    """

    suffixes = (".csv", ".arff", ".arff.gz")
    panel: Panel | None = None

    def __init__(self, shown: bool, label: Collection[str], ignore: Collection[str], categories: Collection[str]):
        self.shown, self.label = shown, frozenset(name.lower() for name in label)
        self.ignore, self.categories = frozenset(ignore), frozenset(categories)
        self._warned: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_warned": set()}

    @property
    def fitted(self) -> Panel:
        """Raises ValueError before ``fit`` or ``restore``."""
        if self.panel is None:
            raise ValueError("which codes there are is learned of the training records: call fit or restore first")
        return self.panel

    def values(self, raw: Mapping[str, Any]) -> dict[str, str]:
        """The values that are there, as text.

        Raises:
            ValueError: no mapping of codes to values, or no value in it.
        """
        if not isinstance(raw, Mapping):
            raise ValueError(f"a record maps codes to values, as {{'TSH': 1.3, 'sex': 'F'}}; this is {raw!r:.40}")
        there = {str(code): _text(value) for code, value in raw.items()}
        there = {code: text for code, text in there.items() if text.lower() not in MISSING and not self._left_out(code)}
        if not there:
            raise ValueError("no value in it: every cell is missing")
        return {code: Category(text) if code in self.categories else text for code, text in there.items()}

    def _left_out(self, code: str) -> bool:
        return code in self.ignore or code.lower() in self.label

    def tokenize(self, raw: Mapping[str, Any], draw: Draw | None = None) -> Piece:
        """The values that are there, one token each.

        Raises:
            ValueError: see ``values``; a code that no training record has; a word where numbers are, or the other way round.
        """
        panel, values = self.fitted, self.values(raw)
        content = torch.tensor([self._row(panel, code, text) for code, text in values.items()])
        columns = torch.tensor([panel.columns[code] if self.shown else 0 for code in values])
        return Piece(content, columns)

    def _row(self, panel: Panel, code: str, text: str) -> tuple[float, float]:
        panel.check(code)
        if code in panel.numbers:
            number = number_of(text)
            if number is None:
                raise ValueError(f"{code!r} is {text!r:.40}, but a number in the training records")
            try:
                return float(panel.columns[code]), panel.numbers[code].scaled(number)
            except ValueError as error:
                raise ValueError(f"{code!r} is {error}") from None
        item = panel.number_of_item.get((code, str(text)))
        if item is None:
            if code not in self._warned:
                self._warned.add(code)
                log.warning("%r: the category %r is in no training record and stands as one unknown; said once", code, text)
            item = panel.number_of_item[code, OTHER]
        return float(item), 0.0

    def detokenize(self, content_R: Tensor) -> dict[str, float | str]:
        """Codes and values; numbers to six digits."""
        return dict(self.pair(int(item), scaled) for item, scaled in content_R.tolist())

    def pair(self, item: int, scaled: float) -> tuple[str, float | str]:
        """The code and the value of a token."""
        code, word = self.fitted.items[item]
        return code, word if word else self.fitted.numbers[code].value(scaled)

    def empty(self) -> Tensor:
        return torch.zeros(0, 2)

    def length(self, record: Record) -> int:
        return len(self.values(record.raw))

    def cell(self, value: str, table: Path, row: int) -> Record:
        """The record itself, written as ``TSH=1.3; sex=F``."""
        pairs = [part.split("=", 1) for part in value.split(";") if part.strip()]
        for pair in pairs:
            if len(pair) != 2 or not pair[0].strip():
                raise BadRecord(table, row, f"{'='.join(pair).strip()[:40]!r} is no value; write TSH=1.3; sex=F")
        codes = [code.strip() for code, _ in pairs]
        if len(set(codes)) < len(codes):
            raise BadRecord(table, row, f"{next(c for c in codes if codes.count(c) > 1)!r} is there twice")
        return self._record(table, row, {code.strip(): text.strip() for code, text in pairs}, None)

    def records(self, path: Path) -> Iterator[Record]:
        """The rows of a .csv or .arff table: a column a code, but for the label's, and those that are ignored.

        Two records are the same where they hold the same values, whatever the order of the columns.

        Raises:
            BadRecord: see ``rows_of``; a row in which every cell is missing; no row at all.
        """
        empty = True
        for row, cells in rows_of(path):
            empty = False
            label = next((str(cells[name]) for name in cells if name.lower() in self.label), None)
            if RECORD in cells:
                found = self.cell(cells[RECORD], path, row)
                yield Record(found.path, row, found.raw, found.key, label)
            else:
                yield self._record(path, row, cells, label)
        if empty:
            raise BadRecord(path, None, "no record in it")

    def _record(self, path: Path, row: int, raw: dict[str, str], label: str | None) -> Record:
        try:
            values = self.values(raw)
            if self.panel is not None:
                self.tokenize(raw)
        except ValueError as error:
            raise BadRecord(path, row, str(error)) from error
        return Record(str(path), row, raw, json.dumps(sorted(values.items())).encode(), label)


def _text(value: Any) -> str:
    """A value as its file writes it."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"a value is a number or a word, not {value!r:.40}")
    return repr(float(value)) if isinstance(value, float) else str(value)
