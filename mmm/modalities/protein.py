"""Proteins: FASTA records, one token a residue (the 33 tokens of ESM, or a pretrained model's), one embedding row an id.

Shape suffixes: R content rows, N tokens of this modality.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from mmm.core.draw import Draw
from mmm.core.errors import BadRecipe, BadRecord
from mmm.core.modality import Assets, Record, Tokenizer
from mmm.core.tokens import Piece
from mmm.modalities._frame import Frame
from mmm.modalities._ids import Embedding, IdModality, Positions, Window, lines

STANDARD = "ACDEFGHIKLMNPQRSTVWY"
RESIDUES = STANDARD + "XBUZO"
"""The 20, then unknown, Asx, selenocysteine, Glx, pyrrolysine: what ESM has a token for."""

MASK = "<mask>"
"""What a mask is called inside a sequence, whatever the vocabulary calls it besides."""

MAX_RESIDUES = 1_000_000
"""Of one sequence; the longest protein known has some 45,000."""

_CAUSES = {
    "*": "a stop inside the sequence; cut it there",
    "-": "a gap of an aligned sequence; remove the gaps",
    ".": "a gap of an aligned sequence; remove the gaps",
    "J": "leucine or isoleucine, which there is no token for; write L, I or X",
}


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a protein model.

    Args:
        tokens: by id. mask: the one that hides a residue.
        before, after: what stands around a sequence; none where the model's own tokenizer puts none.
        roles: special tokens by what they are for (pad, unk, cls, sep, mask), for those that write the vocabulary down.
    """

    tokens: tuple[str, ...]
    mask: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    roles: dict[str, str]

    @classmethod
    def of_esm(cls) -> Vocabulary:
        """As fair-esm numbers them for ESM-1b and ESM-2. Raises ImportError where it is not installed."""
        try:
            from esm.data import Alphabet
        except ImportError as e:
            raise ImportError(
                "Protein needs the package fair-esm (another one, esm, has the same import name and cannot stand in for it)"
            ) from e
        tokens = tuple(Alphabet.from_architecture("ESM-1b").all_toks)
        roles = {"pad": "<pad>", "unk": "<unk>", "cls": "<cls>", "sep": "<eos>", "mask": "<mask>"}
        return cls(tokens, "<mask>", ("<cls>",), ("<eos>",), roles)

    @classmethod
    def of_json(cls, data: bytes) -> Vocabulary:
        """Raises ValueError where it is none."""
        try:
            value = json.loads(data)
            lists = {key: tuple(map(str, value[key])) for key in ("tokens", "before", "after")}
            vocabulary = cls(**lists, mask=str(value["mask"]), roles={k: str(v) for k, v in value["roles"].items()})
        except (AttributeError, KeyError, TypeError, ValueError) as e:
            raise ValueError(f"vocabulary.json is no vocabulary of proteins: {e}") from e
        unknown = {vocabulary.mask, *vocabulary.before, *vocabulary.after} - {*vocabulary.tokens}
        if unknown:
            raise ValueError(f"vocabulary.json has no token {', '.join(sorted(unknown))}")
        return vocabulary


class ProteinTokenizer(Tokenizer):
    """<cls> residues <eos>. Those two cannot be masked; "<mask>" inside a sequence becomes the mask's id.

    Lower-case residues (soft-masked regions) are read as upper-case ones, and one ``*`` at the end (the stop) is left out.

    Args:
        max_length: see ``Protein``. rows: see ``Embedding``.
    """

    suffixes = (".fasta", ".fasta.gz", ".fa", ".fa.gz", ".faa", ".faa.gz")
    reading = ()
    measuring = ("max_length",)

    def __init__(self, max_length: int, rows: int | None = None):
        self.max_length, self.rows = max_length, rows
        self.window = Window(max_length - 2, "protein of {} residues")
        self._set(Vocabulary.of_esm())

    def assets(self) -> Assets:
        """Nothing where the vocabulary is that of ESM."""
        return (
            {} if self.vocabulary == Vocabulary.of_esm() else {"vocabulary.json": json.dumps(asdict(self.vocabulary)).encode()}
        )

    def restore(self, assets: Assets) -> None:
        if "vocabulary.json" in assets:
            self._set(Vocabulary.of_json(assets["vocabulary.json"]))

    def _set(self, vocabulary: Vocabulary) -> None:
        ids = {token: i for i, token in enumerate(vocabulary.tokens)}
        self.vocabulary, self.tokens = vocabulary, dict(enumerate(vocabulary.tokens))
        before, after = (tuple(ids[t] for t in fence) for fence in (vocabulary.before, vocabulary.after))
        self.frames = (Frame((before, after), (0,)),)
        self.mask = ids[vocabulary.mask]
        self.readable = {r: ids[r] for r in RESIDUES if r in ids} | {MASK: self.mask, vocabulary.mask: self.mask}
        letters = [r for r in self.readable if len(r) == 1 and r != vocabulary.mask]
        self.letters = frozenset([*letters, *(r.lower() for r in letters)])
        # A random X, B or gap gives itself away: no protein of the training data holds it at a random place.
        self.choices = torch.tensor(sorted(ids[r] for r in STANDARD if r in ids), device="cpu")
        self.window.room = self.max_length - len(before + after)
        if self.window.room < 1:
            raise BadRecipe(
                f"Protein(max_length={self.max_length}): no room for a residue between {len(before + after)} specials"
            )

    @property
    def size(self) -> int:  # type: ignore[override]
        """Ids there are rows for."""
        if self.rows is not None and self.rows < len(self.tokens):
            known = len(self.tokens)
            raise BadRecipe(f"Protein(embedding.rows={self.rows}): the vocabulary has {known} tokens; it is another model's")
        return self.rows or len(self.tokens)

    @property
    def cls(self) -> int:
        """The first token of a protein."""
        return self.frames[0].fences[0][0]

    @property
    def eos(self) -> int:
        """The last one."""
        return self.frames[0].fences[1][-1]

    def residues(self, sequence: str) -> list[str]:
        """The residues and masks of a sequence, upper-case.

        Raises:
            ValueError: no string, empty, or a residue that there is no token for; names it and its place (from 1).
        """
        if not (isinstance(sequence, str) and sequence):
            raise ValueError(f"a protein is a string of residues, not {sequence!r:.40}")
        if self.letters.issuperset(sequence):  # as nearly all are; the rest is looked at letter by letter
            return list(sequence.upper())
        masks = (MASK, self.vocabulary.mask)
        found = re.findall("|".join((*map(re.escape, masks), ".")), sequence.removesuffix("*"), re.DOTALL)
        residues = [MASK if r in masks else r.upper() for r in found]
        if not residues:
            raise ValueError("the sequence is empty")
        for place, residue in enumerate(residues, 1):
            if residue not in self.readable:
                known = "a residue this model has no token for" if residue in RESIDUES else "no residue"
                choices = ", ".join(r for r in RESIDUES if r in self.readable)
                cause = _CAUSES.get(residue, f"{known}; choices: {choices}")
                raise ValueError(f"{residue!r} at residue {place} is {cause}")
        return residues

    def tokenize(self, raw: str, draw: Draw | None = None) -> Piece:
        """A protein longer than ``max_length`` is cut to a window at a place that ``draw`` chooses.

        Raises:
            ValueError: see ``residues``.
        """
        body = [self.readable[r] for r in self.residues(raw)]
        kept = body[self.window(len(body), draw)]
        before, after = self.frames[0].fences
        ids = torch.tensor([*before, *kept, *after])
        maskable = torch.tensor([*(False for _ in before), *(i != self.mask for i in kept), *(False for _ in after)])
        return Piece(content=ids, positions=torch.arange(len(ids)), maskable=maskable, cut=len(kept) < len(body))

    def tagged(self, raw: str, draw: Draw | None = None) -> tuple[int, Tensor]:
        """How many residues a protein has; and the one that each token of its piece is, by its number, -1 at <cls> and <eos>.
        ``draw`` as in ``tokenize``."""
        residues = len(self.residues(raw))
        kept = range(residues)[self.window(residues, draw)]
        before, after = ([-1] * len(fence) for fence in self.frames[0].fences)
        return residues, torch.tensor([*before, *kept, *after])

    def detokenize(self, content_R: Tensor) -> str:
        """The sequence, with "<mask>" where the mask's id stands."""
        ids = content_R.tolist()
        return "".join(MASK if i == self.mask else self.tokens.get(i, "") for i in ids[self.frames[0].inside(ids)])

    def empty(self) -> Tensor:
        return torch.zeros(0, dtype=torch.int64)

    def length(self, record: Record) -> int:
        return min(len(self.residues(record.raw)) + len(self.frames[0]), self.max_length)

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
            BadRecord: no FASTA, not UTF-8, an empty or repeated id, an empty sequence, a residue without a token.
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
    """Proteins, one token a residue: those of ESM, so that weights of ESM-1b and ESM-2 fit, or those of an imported model.

    Paper: ESM-1b, Rives et al. 2021, doi:10.1073/pnas.2016239118; ESM-2, Lin et al. 2023, doi:10.1126/science.ade2574.

    Args:
        max_length: tokens of the longest piece, <cls> and <eos> among them; longer proteins are cut to a random window.
        positions: absolute positions, of ``max_length`` places where learned (ESM-1b); "none" where the encoder's are
            rotary (ESM-2).
        norm: LayerNorm after the embedding (ESM-1b). eps: of it.
        embedding: token dropout (ESM-2), token types, and what else published models have.
    """

    adjustable = ("max_length",)

    def __init__(
        self,
        max_length: int = 1024,
        positions: Positions = "none",
        norm: bool = False,
        eps: float = 1e-5,
        embedding: Embedding | None = None,
    ):
        super().__init__(positions, norm, eps, embedding)
        if max_length < 3:
            raise BadRecipe(f"Protein(max_length={max_length}): needs 3 or more: <cls>, a residue, <eos>")
        self.tokenizer: ProteinTokenizer = ProteinTokenizer(max_length, self.settings.rows)


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
