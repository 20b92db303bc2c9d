"""Labels of the tokens of a record: a string as long as the record, or a word each.

Shape suffixes: N tokens of a piece (asked ones in ``loss``), U units of a record, V classes.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from mmm.core.draw import Draw
from mmm.core.errors import BadRecord
from mmm.core.modality import Record
from mmm.core.tokens import Tokens
from mmm.objectives._labels import Classes


@runtime_checkable
class Spelled(Protocol):
    """A tokenizer that knows what of a record a tag belongs to: residues of a protein, words of a text."""

    def tagged(self, raw: str, draw: Draw | None = None) -> tuple[int, Tensor]:
        """(U, unit_N): how many units a record has, and for each token of its piece, as ``tokenize`` makes it with this draw,
        which of them it begins; -1 where it begins none."""


class Tags(Classes):
    """One of the classes for each unit of a record: cross-entropy.

    A label is a string with a character a unit, or as many words, with spaces between them; where the units are words, it has
    words. Units are what the tokenizer says (``Spelled``), else the tokens that are no specials.

    Args:
        skip: see ``Label``. ignore: a unit with this tag is not asked.
    """

    unit = "nats a token"

    def __init__(self, skip: bool = False, ignore: str = ""):
        super().__init__(skip)
        self.ignore = ignore

    def split(self, record: Record) -> list[str]:
        """The tags of a record's units. Raises BadRecord where they are not as many as the units."""
        raw = record.raw
        units = self._units(raw)
        return [tag for tag in self._tags(record, units) if tag != self.ignore]

    def _units(self, raw: object) -> int:
        if isinstance(self.tokenizer, Spelled):
            return self.tokenizer.tagged(raw)[0]  # type: ignore[arg-type]
        piece = self.tokenizer.tokenize(raw)
        return len(piece) if piece.maskable is None else int(piece.maskable.sum())

    def _tags(self, record: Record, units: int) -> list[str]:
        label = record.label if isinstance(record.label, list) else str(record.label)
        words = [str(word) for word in (label if isinstance(label, list) else label.split())]
        if len(words) == units:
            return words
        of_words = isinstance(self.tokenizer, Spelled) and len(record.raw.split()) == units
        if len(label) == units and not of_words:
            return list(label)
        found = f"{len(words)} words" + ("" if of_words else f" and {len(label)} characters")
        reason = f"its label has {found}, but the record has {units} to be tagged"
        raise BadRecord(record.path, record.record, reason)

    def read(self, record: Record) -> Tensor:
        """Of all its units, whether they fit in a piece or not; -1 at those that are not asked."""
        units = self._units(record.raw)
        self.numbers(record)
        return torch.tensor([-1 if t == self.ignore else self.number[t] for t in self._tags(record, units)])

    def of_piece(self, tokens: Tokens, segment: int) -> Tensor:
        """truth_N of the tokens of this modality in a segment; -1 at those that are not asked."""
        record: Record = tokens.aux["example"][segment][self.name]
        truth_U = self.read(record)
        if isinstance(self.tokenizer, Spelled):
            draw = tokens.aux["draw"][segment] if "draw" in tokens.aux else None
            unit_N = self.tokenizer.tagged(record.raw, draw)[1]
            return torch.where(unit_N >= 0, truth_U[unit_N.clamp(min=0)], -1)
        one = tokens.segment(segment)
        free_N = one.layout.maskable_T[one.index[self.name]]
        if int(free_N.sum()) != len(truth_U):
            reason = (
                f"{len(truth_U)} tags for {int(free_N.sum())} tokens: a longer record is cut, and which tags stay is not known"
            )
            raise BadRecord(record.path, record.record, reason)
        return torch.full((len(free_N),), -1).masked_scatter(free_N, truth_U)

    def text(self, answer_N: Tensor) -> str:
        """Answers as a label is written: characters where every class is one, else words."""
        names = [self.names[i] for i in answer_N.tolist()]
        return ("" if all(len(name) == 1 for name in self.names) else " ").join(names)
