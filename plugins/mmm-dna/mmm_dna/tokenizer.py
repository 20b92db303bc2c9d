"""Sequences of DNA to tokens and back.

Shape suffixes: R content rows, N tokens of this modality.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from mmm.core.draw import Draw
from mmm.core.errors import BadRecord
from mmm.core.modality import Record, Tokenizer
from mmm.core.tokens import Piece
from torch import Tensor

from mmm_dna._fasta import entries
from mmm_dna._words import AMBIGUOUS, BASES, CLS, MASK, SEP, SPECIALS, Kmers, Letters, reverse_complement

log = logging.getLogger("mmm")

HOLE = "_"
"""One letter that stands for "[MASK]" inside a sequence, while it is turned and cut."""

_CAUSES = {
    "U": "uracil: this is RNA; write T",
    "-": "a gap of an aligned sequence; remove the gaps",
    ".": "a gap of an aligned sequence; remove the gaps",
    "*": "a stop; this is a protein",
    "X": "no code for a base; write N where any may stand",
}


class DnaTokenizer(Tokenizer):
    """[CLS] tokens [SEP]; "[MASK]" inside a sequence is a token that is hidden already. Lower case (soft-masked repeats) is
    read as upper case. The two strands of a molecule are one record: they have one identity.

    Args:
        words: how a sequence is written. max_length, reverse: see ``Dna``.
    """

    suffixes = tuple(end + zipped for end in (".fasta", ".fa", ".fna", ".ffn") for zipped in ("", ".gz"))
    reading = ()
    measuring = ("max_length", "writing")

    def __init__(self, words: Letters, max_length: int, reverse: float):
        self.words, self.max_length, self.reverse = words, max_length, reverse
        self.cuts = 0  # records that were longer than max_length; the first is said aloud

    @property
    def size(self) -> int:  # type: ignore[override]
        """Ids there are."""
        return len(self.words.tokens)

    @property
    def writing(self) -> tuple[str, int, int]:
        """How a sequence is written, but for what was learned."""
        return type(self.words).__name__, self.words.longest, self.words.shared

    @property
    def choices(self) -> Tensor:  # type: ignore[override]
        """Ids of tokens whose bases were read for certain."""
        return torch.tensor(self.words.choices)

    @property
    def mask(self) -> int | None:  # type: ignore[override]
        """The mask's id; overlapping k-mers have no token that it could stand for."""
        return None if self.words.shared else MASK

    def sequence(self, raw: Any) -> str:
        """A raw value in upper case, checked.

        Raises:
            ValueError: no string, empty, or a letter that is no base; names it, its place (from 1) and the likely cause.
        """
        if not (isinstance(raw, str) and raw):
            raise ValueError(f"a sequence of DNA is a string of letters, not {raw!r:.40}")
        sequence = raw.upper()
        bad = re.search(rf"[^{BASES}{AMBIGUOUS}]", sequence.replace(SPECIALS[MASK], "N" * len(SPECIALS[MASK])))
        if bad:
            choices = f"{', '.join(BASES)}, and {', '.join(AMBIGUOUS)} where it was not read for certain"
            raise ValueError(f"{bad[0]!r} at base {bad.start() + 1} is {_CAUSES.get(bad[0], f'no base; choices: {choices}')}")
        return sequence

    def tokenize(self, raw: str, draw: Draw | None = None) -> Piece:
        """The tokens of one sequence. With a draw, of either strand (see ``Dna``), and of a longer sequence than fits, a window
        at a place of its own; without one, of the strand as it is written and from its beginning.

        Overlapping k-mers come in units of k neighbours, which are hidden together: each of them then holds a base that no
        visible token shows. Where the units begin is random, too.
        """
        ids, cut = self._written(self.sequence(raw), draw)
        place_N = torch.arange(len(ids) + 2)
        units = None
        if isinstance(self.words, Kmers) and self.words.overlap:
            k = self.words.longest
            first = 0 if draw is None else int(draw.stream("units").integers(k))
            unit_N = 1 + (torch.arange(len(ids)) + first) // k
            units = torch.cat([torch.tensor([0]), unit_N, unit_N[-1:] + 1])
        content = torch.tensor([CLS, *ids, SEP])
        return Piece(content, place_N, units=units, maskable=torch.isin(content, self.choices), cut=cut)

    def _written(self, sequence: str, draw: Draw | None) -> tuple[list[int], bool]:
        """(ids of the stretch that is read, whether anything was cut off)."""
        sequence = sequence.replace(SPECIALS[MASK], HOLE)
        if HOLE in sequence and self.words.shared:
            raise ValueError("overlapping k-mers have no token that a [MASK] inside a sequence could be; use another split")
        if draw is not None and draw.stream("strand").uniform() < self.reverse:
            sequence = reverse_complement(sequence)
        room = self.max_length - 2
        stretch = self._window(sequence, self.words.letters(room), draw, "crop")
        ids: list[int] = []
        for part in re.findall(f"{HOLE}|[^{HOLE}]+", stretch):
            ids += [MASK] if part == HOLE else self.words.spell(part)
        kept = self._window(ids, room, draw, "cut")
        return kept, len(stretch) < len(sequence) or len(kept) < len(ids)

    def _window(self, whole: Any, room: int, draw: Draw | None, stream: str) -> Any:
        """``room`` neighbours of a string or a list, or all of it where it is no longer."""
        if len(whole) <= room:
            return whole
        if self.cuts == 0:
            log.warning("a sequence of DNA is longer than max_length %d and is cut; this is said once", self.max_length)
        self.cuts += 1
        start = 0 if draw is None else int(draw.stream(stream).integers(len(whole) - room + 1))
        return whole[start : start + room]

    def detokenize(self, content_R: Tensor) -> str:
        """The sequence, with "[MASK]" where the mask's id stands."""
        return self.words.join([i for i in content_R.tolist() if i not in (CLS, SEP)])

    def empty(self) -> Tensor:
        """No id."""
        return torch.zeros(0, dtype=torch.int64)

    def length(self, record: Record) -> int:
        """Of the strand as it is written; the other one can differ by a few tokens where they are not all of one length."""
        return len(self._written(record.raw, None)[0]) + 2

    def cell(self, value: str, table: Path, row: int) -> Record:
        """The sequence itself."""
        return self._record(value, table, row, "")

    def records(self, path: Path) -> Iterator[Record]:
        """The sequences of a FASTA file, by the first word of their headers.

        Raises:
            BadRecord: no FASTA, a name that is used twice, an empty sequence, a letter that is no base.
        """
        line_of: dict[str, int] = {}
        for line, name, sequence in entries(path):
            if name in line_of:
                raise BadRecord(path, name, f"line {line}: this name is already used in line {line_of[name]}")
            line_of[name] = line
            yield self._record(sequence, path, name, f"header in line {line}: ")

    def _record(self, raw: str, path: Path, record: str | int, where: str) -> Record:
        try:
            sequence = self.sequence(raw)
        except ValueError as error:
            raise BadRecord(path, record, f"{where}{error}") from error
        return Record(str(path), record, sequence, min(sequence, reverse_complement(sequence)).encode())
