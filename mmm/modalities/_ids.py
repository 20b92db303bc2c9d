"""What modalities of ids share: lines of files, windows of long records, the embedding, the pictures.

Shape suffixes: R content rows, N tokens of this modality, D width, V output size.
"""

from __future__ import annotations

import gzip
import logging
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, groupby
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from mmm.core.draw import Draw
from mmm.core.errors import BadRecord
from mmm.core.layout import Layout
from mmm.core.modality import Assets, Modality
from mmm.core.objective import Answer
from mmm.core.picture import Marked, Picture
from mmm.core.tokens import Tokens
from mmm.modalities._frame import Frame
from mmm.nn.positions import LearnedPositions, sinusoidal

log = logging.getLogger("mmm")

Positions = Literal["none", "learned", "sinusoidal"]

ORIGINAL = "original."
"""Begins the name of an asset that is a file of the library a vocabulary came from, as it was there."""

MAX_LINE = 2**26
"""Bytes of one line: 64 MiB. A longer one is no text (or a gzip bomb)."""


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines (from 1) of a UTF-8 file, plain or gzip, without their ends; a byte-order mark is dropped.

    Raises:
        BadRecord: not UTF-8, a NUL byte, a line over ``MAX_LINE``, a broken gzip file. Names the line and the byte.
    """
    start = 0
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        for number in count(1):
            try:
                line = file.readline(MAX_LINE + 1)
            except (gzip.BadGzipFile, EOFError, zlib.error) as e:
                raise BadRecord(path, None, f"broken gzip file after byte {start} of its text: {e}") from e
            if not line:
                return
            where = f"line {number}"
            if len(line) > MAX_LINE:
                raise BadRecord(path, None, f"{where}, byte {start}: longer than {MAX_LINE} bytes")
            if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise BadRecord(path, None, "UTF-16 text (by its first two bytes); convert it to UTF-8")
            nul = line.find(b"\0")
            if nul >= 0:
                raise BadRecord(path, None, f"{where}, byte {start + nul}: a NUL byte; no text, or not UTF-8")
            try:
                text = line.decode()
            except UnicodeDecodeError as e:
                byte = f"{where}, byte {start + e.start} (0x{line[e.start]:02x})"
                raise BadRecord(path, None, f"{byte}: not UTF-8; convert it, as with iconv -f latin1 -t utf-8") from e
            start += len(line)
            yield number, text.removeprefix("\ufeff" if number == 1 else "").rstrip("\r\n")


class Window:
    """The stretch of a record that is read: all of it, or ``room`` neighbours at a place its own draw chooses.

    The first cut is said aloud, later ones are counted in ``cuts``.

    Args:
        room: the most neighbours that fit. noun: what a record is called ("text of {} tokens").
    """

    def __init__(self, room: int, noun: str):
        self.room, self.noun, self.cuts = room, noun, 0

    def __call__(self, length: int, draw: Draw | None, room: int | None = None) -> slice:
        """Which of ``length`` neighbours are read; without a draw, the first. ``room``: another than the usual."""
        room = self.room if room is None else room
        if length <= room:
            return slice(0, length)
        if self.cuts == 0:
            log.warning(
                "a %s is cut to the %d that max_length leaves room for; this is said once", self.noun.format(length), room
            )
        self.cuts += 1
        start = 0 if draw is None else int(draw.stream("crop").integers(length - room + 1))
        return slice(start, start + room)

    def two(self, first: int, second: int, room: int, draw: Draw | None) -> tuple[slice, slice]:
        """The same of two records that share ``room``: the longer one is cut, and when both are as long, both."""
        half = min(first, second, room // 2)
        rooms = (room - half, half) if first > second else (half, room - half)
        draws = (None, None) if draw is None else (draw.stream("first"), draw.stream("second"))
        return self(first, draws[0], rooms[0]), self(second, draws[1], rooms[1])


class IdTokenizer(Protocol):
    """What ``IdModality`` asks of its tokenizer: how many ids, which is the mask, how long a piece can be, its vocabulary."""

    max_length: int

    def assets(self) -> Assets: ...

    def restore(self, assets: Assets) -> None: ...

    @property
    def size(self) -> int: ...

    @property
    def mask(self) -> int: ...

    @property
    def frames(self) -> tuple[Frame, ...]: ...

    def detokenize(self, content_R: Tensor) -> str: ...


@dataclass
class Embedding:
    """How ids become vectors, where it is not one row an id and no more.

    Args:
        width: of the tables; a product leads from it to the encoder's (ELECTRA). null: the encoder's own.
        rows: ids there are rows for, at least; published tables are padded (ModernBERT). null: one an id.
        types: kinds of text, each with a learned vector: the second of two texts is of kind 1 (BERT); 0: no such vectors.
        bias: of the LayerNorm. dropout: after it.
        rescale: share of masks the rows are used to: masks are shown as zeros, and all others of a record are multiplied by
            (1 - rescale) / (1 - its share of masks), in training and after it (ESM-2's token dropout: 0.12). null: nothing.
    """

    width: int | None = None
    rows: int | None = None
    types: int = 0
    bias: bool = True
    dropout: float = 0.0
    rescale: float | None = None


class IdModality(Modality):
    """A modality whose content is ids: one embedding row an id, the mask id's row at hidden tokens.

    Args:
        positions: absolute positions added to the embedding; "none" where the encoder's are rotary.
        norm: LayerNorm after them (BERT, ModernBERT). eps: of it.
        embedding: what there is besides.
    """

    def __init__(self, positions: Positions, norm: bool, eps: float = 1e-5, embedding: Embedding | None = None):
        super().__init__()
        self.positions, self.with_norm, self.eps = positions, norm, eps
        self.settings = embedding or Embedding()
        self.originals: Assets = {}

    @property
    def ids(self) -> IdTokenizer:
        return self.tokenizer  # type: ignore[return-value]

    def assets(self) -> Assets:
        """The vocabulary, and the files it was read from in another library."""
        return {**self.ids.assets(), **{ORIGINAL + file: data for file, data in self.originals.items()}}

    def restore(self, assets: Assets) -> None:
        self.originals = {f.removeprefix(ORIGINAL): data for f, data in assets.items() if f.startswith(ORIGINAL)}
        self.ids.restore({f: data for f, data in assets.items() if not f.startswith(ORIGINAL)})

    def build(self, width: int) -> None:
        """One row an id (normal, std 0.02: BERT), positions and norm as asked."""
        settings = self.settings
        own = settings.width or width
        self.embedding = nn.Embedding(self.ids.size, own)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.position = LearnedPositions((self.ids.max_length,), own) if self.positions == "learned" else None
        self.kind = nn.Embedding(settings.types, own) if settings.types else None
        if self.kind is not None:
            nn.init.normal_(self.kind.weight, std=0.02)
        self.norm = nn.LayerNorm(own, eps=self.eps, bias=settings.bias) if self.with_norm else nn.Identity()
        self.dropout = nn.Dropout(settings.dropout) if settings.dropout else nn.Identity()
        self.project = nn.Linear(own, width) if own != width else nn.Identity()

    def embed(self, content_R: Tensor, layout_N: Layout, hidden_N: Tensor) -> Tensor:
        """x_ND. A hidden token is embedded as the mask id, so weights can be exchanged with BERT and ESM."""
        shown_N = torch.where(hidden_N, self.ids.mask, content_R)
        x_ND = self.embedding(shown_N)
        if self.settings.rescale is not None:
            x_ND = x_ND * self._factor(shown_N == self.ids.mask, layout_N, self.settings.rescale)[:, None]
        if self.kind is not None:
            type_N = layout_N.position_TC[:, -2].long() if self.tokenizer.coordinates > 1 else torch.zeros_like(shown_N)
            x_ND = x_ND + self.kind(type_N)
        if self.position is not None:
            x_ND = x_ND + self.position(layout_N.position_TC, 1)
        elif self.positions == "sinusoidal":
            x_ND = x_ND + sinusoidal(layout_N.position_TC, x_ND.shape[1], 1).to(x_ND.dtype)
        normed_ND: Tensor = self.project(self.dropout(self.norm(x_ND)))
        return normed_ND

    @staticmethod
    def _factor(masked_N: Tensor, layout_N: Layout, usual: float) -> Tensor:
        """factor_N: 0 at masks; elsewhere so much that a record with more masks than usual is as large as others."""
        length_S = torch.tensor(layout_N.lengths, device=masked_N.device)
        masks_S = torch.zeros_like(length_S).index_add_(0, layout_N.segment_T, masked_N.long())
        factor_S = (1 - usual) * length_S / (length_S - masks_S).clamp(min=1)
        return factor_S[layout_N.segment_T].masked_fill(masked_N, 0.0)

    def tied(self) -> Tensor:
        return self.embedding.weight

    def pictures(self, tokens: Tokens, name: str, hidden_N: Tensor, answers: Sequence[Answer]) -> list[Picture]:
        """The record whole, masked, and filled with the likeliest id of every target that predicts ids."""
        part = tokens.part(name)
        ids = part.content_R.tolist()
        marks = ["hidden" if h else "seen" for h in hidden_N.tolist()]
        shown = [self.ids.mask if h else i for h, i in zip(hidden_N.tolist(), ids, strict=True)]
        pictures: list[Picture] = [
            Marked("original", self._words(ids, ["seen"] * len(ids), ids)),
            Marked("masked", self._words(shown, marks, ids)),
        ]
        row = {place: n for n, place in enumerate(part.index_N.tolist())}
        for answer in answers:
            if answer.name != name or answer.output_NV.shape[-1] != self.ids.size:
                continue
            filled, judged = list(shown), list(marks)
            for place, guess in zip(answer.answer_N.tolist(), answer.output_NV.argmax(-1).tolist(), strict=True):
                n = row[place]
                filled[n], judged[n] = guess, "right" if guess == ids[n] else "wrong"
            right, asked = judged.count("right"), len(answer.answer_N)
            pictures.append(Marked(f"filled: {right} of {asked} right", self._words(filled, judged, ids)))
        return pictures

    def _words(self, shown: Sequence[int], marks: Sequence[str], ids: Sequence[int]) -> tuple[tuple[str, str, str], ...]:
        """Runs of seen ids as one string, every other id alone with the true one as its note."""
        words = []
        entries = list(zip(shown, marks, ids, strict=True))[self.ids.frames[0].inside(ids)]
        for seen, run in groupby(entries, key=lambda e: e[1] == "seen"):
            if seen:
                words.append((self._string(*(i for i, _, _ in run)), "seen", ""))
            else:
                words += [(self._string(i), mark, self._string(true)) for i, mark, true in run]
        return tuple(words)

    def _string(self, *ids: int) -> str:
        return self.ids.detokenize(torch.tensor(ids)).strip() or "\u2423"  # an open box for white space
