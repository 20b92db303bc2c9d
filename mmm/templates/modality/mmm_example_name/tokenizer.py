"""Series of numbers: files in, tokens out, and back.

Shape suffixes: R content rows (one a token), N tokens, P numbers a patch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mmm.core.draw import Draw
from mmm.core.errors import BadRecord
from mmm.core.modality import Record, Tokenizer
from mmm.core.tokens import Piece


class ExampleNameTokenizer(Tokenizer):
    """A series of numbers is cut into patches of P neighbours: one patch, one token.

    A tokenizer is plain and picklable: it goes to data-loader workers, so it holds no parameters, no open files, no lambdas.
    Whatever cannot be read is a ``BadRecord``, or a ``ValueError`` about a raw value: one line that says what and where.

    Args:
        patch: P. max_length: tokens of the longest piece.

    Attributes:
        mean, std: of the training numbers; ``ExampleName.fit`` sets them.
    """

    suffixes = (".series",)  # endings of the files it reads
    coordinates = 1  # of a token's position: 1 to 3 (a place in time; row and column; row, column and frame)
    # Content is numbers here. Where it is ids, say so: `size` is how many there are, and `choices` is a tensor of those that a
    # corruption may draw at random (all but the specials). Where content has not one row a token (a front end makes one token
    # of many samples), set rowwise = False; see mmm.core.modality.

    def __init__(self, patch: int, max_length: int):
        self.patch, self.max_length = patch, max_length
        self.mean, self.std = 0.0, 1.0

    def tokenize(self, raw: Sequence[float] | Tensor, draw: Draw | None = None) -> Piece:
        """The patches of one series. What is left over behind the last whole patch is left out, and ``cut`` says so.

        A series that is longer than ``max_length`` patches is cut to a window: at a place that ``draw`` chooses in training, at
        its beginning elsewhere (``draw`` is None in validation). Take all random numbers from ``draw``: it is keyed by the
        record and the epoch, so that batch mates, workers and processes have no say.

        Args:
            raw: the numbers. draw: the record's own stream of random numbers.

        Raises:
            ValueError: no series of finite numbers, or one that is shorter than a patch.
        """
        numbers = torch.as_tensor(raw, dtype=torch.float32)
        if numbers.ndim != 1 or len(numbers) < self.patch or not numbers.isfinite().all():
            raise ValueError(f"a record is a series of {self.patch} or more finite numbers, not {raw!r:.60}")
        patches = len(numbers) // self.patch
        kept = min(patches, self.max_length)
        first = 0 if draw is None else int(draw.stream("window").integers(patches - kept + 1))
        numbers = numbers[first * self.patch : (first + kept) * self.patch]
        return Piece(
            content=((numbers - self.mean) / self.std).view(kept, self.patch),  # (R, P)
            positions=torch.arange(kept),  # (N,) or (N, coordinates); all 0 where the order of tokens means nothing
            # units=...: (N,) numbers, never decreasing; tokens of one unit (the pieces of a word) are hidden together
            # maskable=...: (N,) False for specials (a CLS token), which are never hidden and never asked
            cut=kept * self.patch < len(torch.as_tensor(raw)),
        )

    def detokenize(self, content_R: Tensor) -> list[float]:
        """The numbers of content rows: what ``tokenize`` reads, as nearly as it can be had."""
        numbers: list[float] = (content_R.float() * self.std + self.mean).flatten().tolist()
        return numbers

    def empty(self) -> Tensor:
        """Content with zero rows, of the shape and type that ``tokenize`` makes: what a batch without this modality holds."""
        return torch.zeros(0, self.patch)

    def length(self, record: Record) -> int:
        """How many tokens ``tokenize`` will make of a record, without making them: batches are cut by it."""
        return min(len(record.raw) // self.patch, self.max_length)

    def records(self, path: Path) -> Iterator[Record]:
        """The records of one file: a line a series, its numbers apart by spaces or commas.

        ``raw`` is what ``tokenize`` takes; where it is large, let it be a path and a place, and read it there. ``key`` is the
        record's identity: equal content, equal key, wherever the file lies.

        Raises:
            BadRecord: not UTF-8, something that is no number, a series that is too short, no series at all.
        """
        number = 0
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise BadRecord(path, None, f"not UTF-8 at byte {error.start}; a series is a line of numbers") from error
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield self._record(path, number, line)
        if not any(map(str.strip, lines)):
            raise BadRecord(path, None, "no series in it: one stands in each line, its numbers apart by spaces or commas")

    def cell(self, value: str, table: Path, row: int) -> Record:
        """The record that a cell of a table (.csv, .tsv with the columns ``record`` and ``label``) stands for: a series.

        Without this method a cell is the path of a file, from the table's folder.
        """
        return self._record(table, row, value)

    def _record(self, path: Path, number: int, line: str) -> Record:
        raw = []
        for word in line.replace(",", " ").split():
            try:
                raw.append(float(word))
            except ValueError:
                raise BadRecord(path, number, f"{word[:40]!r} is no number") from None
            if not math.isfinite(raw[-1]):
                raise BadRecord(path, number, f"{word!r} is not finite; leave such series out, or fill them up")
        if len(raw) < self.patch:
            raise BadRecord(path, number, f"{len(raw)} numbers, fewer than the {self.patch} of one patch")
        return Record(str(path), number, raw, " ".join(map(repr, raw)).encode())
