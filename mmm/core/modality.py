"""A modality: raw records in, embedded tokens out.

Shape suffixes: R content rows, N tokens of this modality, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .draw import Draw, hash64
from .errors import BadRecord
from .layout import Layout
from .picture import Picture
from .tokens import Piece, Tokens

if TYPE_CHECKING:
    from .objective import Answer

Assets = dict[str, bytes]
"""Named files that a fitted part leaves: in RUN/assets, and in every checkpoint."""


@dataclass(frozen=True)
class Record:
    """One record of one modality.

    Args:
        path: the file it came from. record: its name or number there, None where the file is the record.
        raw: what the tokenizer takes: text, residues, a path, an array. Decoding waits until it is asked for.
        key: bytes that are the record's identity: equal content, equal key, wherever the file lies.
        label: what is known of it besides, for tasks.
    """

    path: str
    record: str | int | None
    raw: Any
    key: bytes
    label: Any = None

    @property
    def sample(self) -> int:
        """The record's 64-bit name, the key of all its randomness."""
        return hash64(self.key)


class Encoded(str):
    """A string, and what its tokenizer's ``encode`` gave for it: ``tokenize`` and ``length`` need not ask again. It is for that
    tokenizer alone.

    Args:
        codes: (n,) int32.
    """

    codes: Tensor

    def __new__(cls, raw: str, codes: Tensor) -> Encoded:
        made = super().__new__(cls, raw)
        made.codes = codes
        return made

    def __reduce__(self) -> tuple[Any, tuple[str, Any]]:
        # Not as a tensor, each of which would take a file of its own on the way from a worker.
        return _encoded, (str(self), self.codes.numpy())


def _encoded(raw: str, codes: Any) -> Encoded:
    return Encoded(raw, torch.from_numpy(codes))


class Tokenizer(ABC):
    """Raw values to pieces and back. Plain and picklable: no parameters, no open files; runs in data-loader workers.

    Attributes:
        coordinates: how many coordinates its positions have, 1 to 3.
        rowwise: one content row a token. A waveform is not: its front end turns many samples into one token.
        choices: ids a random replacement is drawn from; None where content is not ids.
        size: number of ids; 0 where content is not ids.
        mask: the id by which a record says itself that a token is hidden; None where it cannot.
        suffixes: endings of the files it reads.
        reading: names of its attributes that decide which records a file holds. Where they are named, and records are strings,
            those of large files are kept on disk, ready to be read; None: they are read anew in every run.
        measuring: names of its attributes that decide, with the vocabulary, how long a record is.
        encoding: names of its attributes that decide, with the vocabulary, what ``encode`` gives. Where they are named, loaders
            read records that are strings as ``Encoded``, and what lies on disk has it there; None: they are encoded anew
            whenever they are read. Records of several modalities and pairs always are.
    """

    coordinates: int = 1
    rowwise: bool = True
    choices: Tensor | None = None
    size: int = 0
    mask: int | None = None
    suffixes: tuple[str, ...] = ()
    reading: tuple[str, ...] | None = None
    measuring: tuple[str, ...] = ()
    encoding: tuple[str, ...] | None = None

    @abstractmethod
    def tokenize(self, raw: Any, draw: Draw | None = None) -> Piece:
        """The piece of one raw value. ``draw`` is the record's own stream (crop, augmentation); None: nothing random.

        What asks the draw for no number is the same at every reading, and training may keep it for the next.
        """

    def encode(self, raw: str) -> Tensor:
        """What of ``tokenize`` is the same at every reading: (n,) int32.

        Only asked where ``encoding`` is named. Raises ValueError where ``tokenize`` does.
        """
        raise NotImplementedError(f"{type(self).__name__} names encoding={self.encoding!r}, and has no encode() of its own")

    @abstractmethod
    def detokenize(self, content_R: Tensor) -> Any:
        """Raw values of content rows, as nearly as they can be had."""

    @abstractmethod
    def empty(self) -> Tensor:
        """Content with zero rows, of the right shape and dtype."""

    @abstractmethod
    def records(self, path: Path) -> Iterator[Record]:
        """The records of one file. Raises BadRecord naming the file and the record where one cannot be read."""

    def cell(self, value: str, table: Path, row: int) -> Record:
        """The record that a cell of a table stands for: here a file, by its path from the table's folder.

        Modalities that are written down as strings override this: the cell is the record.

        Args:
            value: what the cell holds. table: the file it stands in. row: its number there, from 1.

        Raises:
            BadRecord: no such file, one that cannot be read, or one of several records.
        """
        path = table.parent / value
        if not value or not path.is_file():
            raise BadRecord(
                table, row, f"no file {value!r} beside the table; its column 'record' holds paths from {table.parent}"
            )
        found = list(self.records(path))
        if len(found) != 1:
            raise BadRecord(table, row, f"{value} holds {len(found)} records; a cell stands for one")
        return found[0]

    @abstractmethod
    def length(self, record: Record) -> int:
        """Tokens ``tokenize`` will make of a record, known without decoding more than its header."""


class Modality(nn.Module, ABC):
    """Everything of one modality: its tokenizer, its embedding, its pictures.

    Life: constructed from a recipe; ``fit`` once on rank 0 of a fresh run, or ``restore`` from assets; ``build`` makes the
    parameters; ``embed`` from then on.
    """

    tokenizer: Tokenizer
    adjustable: tuple[str, ...] = ()
    """Arguments that may differ between a pretrained model and a run that begins from it: they change neither what content is
    nor which parameters there are."""

    def fit(self, records: Sequence[Record]) -> None:
        """Learn what the tokenizer needs from training records (a vocabulary, a mean). Nothing by default."""

    def assets(self) -> Assets:
        """What ``fit`` learned, as named files."""
        return {}

    def restore(self, assets: Assets) -> None:
        """Take up what ``fit`` learned. Called on every rank, on resume and on load."""

    def extend(self, records: Sequence[Record]) -> bool:
        """After ``restore`` of a pretrained model's assets, once on rank 0 of a fresh run: learn what the recipe asks besides.

        Returns:
            Whether anything was added, so that ``assets`` are to be kept anew. Nothing by default.
        """
        return False

    def extended(self) -> dict[int, list[int]]:
        """Ids that ``extend`` added, each with the old ones it was read as before: its row begins as their mean."""
        return {}

    @abstractmethod
    def build(self, width: int) -> None:
        """Make the parameters for an encoder of this width."""

    @abstractmethod
    def embed(self, content_R: Tensor, layout_N: Layout, hidden_N: Tensor) -> Tensor:
        """x_ND, complete: mask vector at ``hidden_N``, positions, norms, projection, front end.

        ``layout_N.runs`` tells rows and tokens of each piece where content is not one row a token.
        """

    def tied(self) -> Tensor | None:
        """(vocabulary, D) the embedding a tied head shares; None where there is none."""
        return None

    def pictures(self, tokens: Tokens, name: str, hidden_N: Tensor, answers: Sequence[Answer]) -> list[Picture]:
        """Original, masked and filled, of a one-record batch, for people to look at.

        Args:
            tokens: one clean record. name: this modality there.
            hidden_N: its hidden tokens. answers: what was predicted at them.
        """
        return []
