"""SMILES strings to tokens and back.

Shape suffixes: R content rows.
"""

from __future__ import annotations

import gzip
import logging
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from mmm.core.draw import Draw
from mmm.core.errors import BadRecord
from mmm.core.modality import Record, Tokenizer
from mmm.core.tokens import Piece
from torch import Tensor

from mmm_smiles._atoms import CLS, MASK, SEP, SPECIALS, Vocabulary, split
from mmm_smiles.chemistry import fault_of, rewritten

log = logging.getLogger("mmm")

MAX_LINE = 2**16
"""Bytes of one line of a file; strings of proteins of 500 residues have some 10,000."""


class SmilesTokenizer(Tokenizer):
    """[CLS] atoms and signs [SEP]; "[MASK]" inside a string is an atom that is hidden already. An atom that is spelled by its
    characters is one unit: it is hidden as a whole.

    Args:
        max_length, randomise: see ``Smiles``.
    """

    suffixes = (".smi", ".smi.gz", ".smiles", ".smiles.gz")
    mask = MASK
    reading = ("randomise",)
    measuring = ("max_length",)

    def __init__(self, max_length: int, randomise: float):
        self.max_length, self.randomise = max_length, randomise
        self.vocabulary = Vocabulary()
        self.cuts = 0  # strings that were longer than max_length; the first is said aloud

    @property
    def size(self) -> int:  # type: ignore[override]
        """Ids there are."""
        return len(self.vocabulary.tokens)

    @property
    def choices(self) -> Tensor:  # type: ignore[override]
        """All ids but the specials."""
        return torch.arange(len(SPECIALS), self.size)

    def atoms(self, raw: Any) -> list[str]:
        """Atoms and signs of a raw value. Raises ValueError where it is no string, empty, or no SMILES by its characters."""
        if not (isinstance(raw, str) and raw):
            raise ValueError(f"a molecule is a SMILES string, not {raw!r:.40}")
        return split(raw)

    def tokenize(self, raw: str, draw: Draw | None = None) -> Piece:
        """The tokens of one string; with a draw, of another string of the same molecule (see ``Smiles``).

        Of a longer one than fits, a stretch of whole atoms is read: with a draw one at any place, without one the first.
        """
        atoms = self.atoms(raw)
        if draw is not None and SPECIALS[MASK] not in atoms and draw.stream("randomise").uniform() < self.randomise:
            atoms = self.atoms(rewritten(raw, draw.stream("order")))
        spelled = [self.vocabulary.spell(atom) for atom in atoms]
        kept = self._stretch(spelled, draw)
        ids = torch.tensor([CLS, *(i for atom in kept for i in atom), SEP])
        unit = [0, *(n for n, atom in enumerate(kept, 1) for _ in atom), len(kept) + 1]
        return Piece(
            content=ids,
            positions=torch.arange(len(ids)),
            units=torch.tensor(unit),
            maskable=ids >= len(SPECIALS),
            cut=len(kept) < len(spelled),
        )

    def _stretch(self, spelled: list[list[int]], draw: Draw | None) -> list[list[int]]:
        """Neighbouring atoms that fit between [CLS] and [SEP]."""
        room = self.max_length - 2
        end = [*accumulate(map(len, spelled))]
        if end[-1] <= room:
            return spelled
        if self.cuts == 0:
            log.warning("a SMILES string of %d tokens is cut to max_length %d; this is said once", end[-1] + 2, self.max_length)
        self.cuts += 1
        start = 0
        if draw is not None:  # any from which on there is enough to fill the room
            start = int(draw.stream("crop").integers(bisect_right(end, end[-1] - room) + 1))
        before = end[start - 1] if start else 0
        return spelled[start : bisect_right(end, before + room)]

    def detokenize(self, content_R: Tensor) -> str:
        """The string, with "[MASK]" where the mask's id stands."""
        return "".join(self.vocabulary.tokens[i] for i in content_R.tolist() if i not in (CLS, SEP))

    def empty(self) -> Tensor:
        return torch.zeros(0, dtype=torch.int64)

    def length(self, record: Record) -> int:
        """Of the string as it is written; others of the same molecule can differ by a few tokens."""
        return 2 + sum(map(len, self._stretch([self.vocabulary.spell(atom) for atom in split(record.raw)], None)))

    def cell(self, value: str, table: Path, row: int) -> Record:
        """The string itself."""
        return self._record(value, table, row)

    def records(self, path: Path) -> Iterator[Record]:
        """The strings of a .smi file, one a line; what stands behind white space is a name and is not read.

        Records are numbered by their lines, from 1; empty lines are none.

        Raises:
            BadRecord: not ASCII, no SMILES by its characters (with ``randomise``: by RDKit), a broken gzip file, no string.
        """
        empty = True
        for number, line in _lines(path):
            if line.split():
                empty = False
                yield self._record(line.split()[0], path, number)
        if empty:
            raise BadRecord(path, None, "no SMILES string in it")

    def _record(self, raw: str, path: Path, number: int) -> Record:
        try:
            atoms = self.atoms(raw)
        except ValueError as error:
            raise BadRecord(path, number, str(error)) from error
        if self.randomise and SPECIALS[MASK] not in atoms and (fault := fault_of(raw)):
            raise BadRecord(path, number, f"{raw!r:.80} is no molecule and cannot be written otherwise (randomise): {fault}")
        return Record(str(path), number, raw, raw.encode())


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines, from 1. Raises BadRecord: see ``SmilesTokenizer.records``."""
    with gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb") as file:
        number = 0
        while True:
            number += 1
            try:
                line = file.readline(MAX_LINE + 1)
            except (EOFError, OSError, zlib.error) as error:
                raise BadRecord(path, number, f"cannot be read: {error}") from error
            if not line:
                return
            if len(line) > MAX_LINE:
                raise BadRecord(path, number, f"longer than {MAX_LINE} bytes; this is no SMILES string")
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if b"\0" in line:
                raise BadRecord(path, number, "a NUL byte; this is no text")
            try:
                yield number, line.decode()  # names may hold any letters
            except UnicodeDecodeError as error:
                raise BadRecord(path, number, f"byte 0x{line[error.start]:02x} is not UTF-8") from error
