"""Proteins: FASTA records, the 33 tokens of ESM, one embedding row an id.

Shape suffixes: R content rows, N tokens of this modality.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from mmm.core.draw import Draw
from mmm.core.errors import BadRecipe, BadRecord
from mmm.core.modality import Record, Tokenizer
from mmm.core.tokens import Piece
from mmm.modalities._ids import IdModality, Positions, Window, lines

STANDARD = "ACDEFGHIKLMNPQRSTVWY"
RESIDUES = STANDARD + "XBUZO"
"""The 20, then unknown, Asx, selenocysteine, Glx, pyrrolysine: what ESM has a token for."""

MAX_RESIDUES = 1_000_000
"""Of one sequence; the longest protein known has some 45,000."""

_CAUSES = {
    "*": "a stop inside the sequence; cut it there",
    "-": "a gap of an aligned sequence; remove the gaps",
    ".": "a gap of an aligned sequence; remove the gaps",
    "J": "leucine or isoleucine, which ESM has no token for; write L, I or X",
}


def _vocabulary() -> dict[str, int]:
    """Token to id, as fair-esm numbers them for ESM-1b and ESM-2."""
    try:
        from esm.data import Alphabet
    except ImportError as e:
        raise ImportError(
            "Protein needs the package fair-esm (another one, esm, has the same import name and cannot stand in for it)"
        ) from e
    return dict(Alphabet.from_architecture("ESM-1b").tok_to_idx)


class ProteinTokenizer(Tokenizer):
    """<cls> residues <eos>. Those two cannot be masked; "<mask>" inside a sequence becomes the mask's id.

    Lower-case residues (soft-masked regions) are read as upper-case ones, and one ``*`` at the end (the stop) is left out.

    Args:
        max_length: see ``Protein``.
    """

    suffixes = (".fasta", ".fasta.gz", ".fa", ".fa.gz", ".faa", ".faa.gz")

    def __init__(self, max_length: int):
        vocabulary = _vocabulary()
        self.max_length, self.size = max_length, len(vocabulary)
        self.tokens = {i: token for token, i in vocabulary.items()}
        self.cls, self.eos, self.mask = vocabulary["<cls>"], vocabulary["<eos>"], vocabulary["<mask>"]
        self.fences = frozenset({self.cls, self.eos})
        self.readable = {r: vocabulary[r] for r in (*RESIDUES, "<mask>")}
        # A random X, B or gap gives itself away: no protein of the training data holds it at a random place.
        self.choices = torch.tensor(sorted(vocabulary[r] for r in STANDARD))
        self.window = Window(max_length - 2, "protein of {} residues")

    def residues(self, sequence: str) -> list[str]:
        """The residues and masks of a sequence, upper-case.

        Raises:
            ValueError: no string, empty, or a residue that ESM has no token for; names it and its place (from 1).
        """
        if not (isinstance(sequence, str) and sequence):
            raise ValueError(f"a protein is a string of residues, not {sequence!r:.40}")
        residues = [r if r == "<mask>" else r.upper() for r in re.findall("<mask>|.", sequence.removesuffix("*"), re.DOTALL)]
        if not residues:
            raise ValueError("the sequence is empty")
        for place, residue in enumerate(residues, 1):
            if residue not in self.readable:
                cause = _CAUSES.get(residue, f"no residue; choices: {', '.join(RESIDUES)}")
                raise ValueError(f"{residue!r} at residue {place} is {cause}")
        return residues

    def tokenize(self, raw: str, draw: Draw | None = None) -> Piece:
        """A protein longer than ``max_length`` is cut to a window at a place that ``draw`` chooses.

        Raises:
            ValueError: see ``residues``.
        """
        body = [self.readable[r] for r in self.residues(raw)]
        ids = torch.tensor([self.cls, *body[self.window(len(body), draw)], self.eos])
        maskable = (ids != self.cls) & (ids != self.eos) & (ids != self.mask)
        return Piece(content=ids, positions=torch.arange(len(ids)), maskable=maskable, cut=len(ids) - 2 < len(body))

    def tagged(self, raw: str, draw: Draw | None = None) -> tuple[int, Tensor]:
        """How many residues a protein has; and the one that each token of its piece is, by its number, -1 at <cls> and <eos>.
        ``draw`` as in ``tokenize``."""
        residues = len(self.residues(raw))
        kept = range(residues)[self.window(residues, draw)]
        return residues, torch.tensor([-1, *kept, -1])

    def detokenize(self, content_R: Tensor) -> str:
        """The sequence, with "<mask>" where the mask's id stands."""
        return "".join(self.tokens[i] for i in content_R.tolist() if i not in self.fences)

    def empty(self) -> Tensor:
        return torch.zeros(0, dtype=torch.int64)

    def length(self, record: Record) -> int:
        return min(len(self.residues(record.raw)) + 2, self.max_length)

    def cell(self, value: str, table: Path, row: int) -> Record:
        """The sequence itself."""
        try:
            raw = "".join(self.residues(value))
        except ValueError as e:
            raise BadRecord(table, row, str(e)) from e
        return Record(str(table), row, raw, raw.encode())

    def records(self, path: Path) -> Iterator[Record]:
        """Proteins of a FASTA file, by the first word of their headers; the sequence is the identity.

        Raises:
            BadRecord: no FASTA, not UTF-8, an empty or repeated id, an empty sequence, a residue ESM has no token for.
        """
        first_line: dict[str, int] = {}
        for number, name, sequence in _entries(path):
            if name in first_line:
                raise BadRecord(path, name, f"line {number}: this id is already used in line {first_line[name]}")
            first_line[name] = number
            try:
                raw = "".join(self.residues(sequence))
            except ValueError as e:
                raise BadRecord(path, name, f"header in line {number}: {e}") from e
            yield Record(str(path), name, raw, raw.encode())
        if not first_line:
            raise BadRecord(path, None, "no protein in it")


class Protein(IdModality):
    """Proteins as the tokens of ESM, one a residue, so that weights of ESM-1b and ESM-2 fit.

    Paper: ESM-1b, Rives et al. 2021, doi:10.1073/pnas.2016239118; ESM-2, Lin et al. 2023, doi:10.1126/science.ade2574.

    Args:
        max_length: tokens of the longest piece, <cls> and <eos> among them; longer proteins are cut to a random window.
        positions: absolute positions, of ``max_length`` places where learned (ESM-1b); "none" where the encoder's are
            rotary (ESM-2).
        norm: LayerNorm after the embedding (ESM-1b). eps: of it.
    """

    adjustable = ("max_length",)

    def __init__(self, max_length: int = 1024, positions: Positions = "none", norm: bool = False, eps: float = 1e-5):
        super().__init__(positions, norm, eps)
        if max_length < 3:
            raise BadRecipe(f"Protein(max_length={max_length}): needs 3 or more: <cls>, a residue, <eos>")
        self.tokenizer: ProteinTokenizer = ProteinTokenizer(max_length)


def _entries(path: Path) -> Iterator[tuple[int, str, str]]:
    """(line of the header, id, sequence) of the entries of a FASTA file."""
    header, name, parts, residues = 0, "", list[str](), 0
    for number, line in lines(path):
        line = line.strip()
        if line.startswith(">"):
            if header:
                yield header, name, "".join(parts)
            if not line[1:].split():
                raise BadRecord(path, None, f"line {number}: a header without an id")
            header, name, parts, residues = number, line[1:].split()[0], [], 0
        elif line:
            if not header:
                found = "HTML" if line.startswith("<") and not line.startswith("<mask>") else f"{line[:20]!r}"
                raise BadRecord(
                    path, None, f"line {number}: {found} where the header of a FASTA entry ('>' and an id) should stand"
                )
            residues += len(line)
            if residues > MAX_RESIDUES:
                raise BadRecord(path, name, f"line {number}: more than {MAX_RESIDUES} residues")
            parts.append(line)
    if header:
        yield header, name, "".join(parts)
