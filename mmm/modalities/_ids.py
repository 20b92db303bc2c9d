"""What modalities of ids share: lines of files, windows of long records, the embedding, the pictures.

Shape suffixes: R content rows, N tokens of this modality, D width, V output size.
"""

from __future__ import annotations

import gzip
import logging
import zlib
from collections.abc import Iterator, Sequence
from itertools import count, groupby
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from mmm.core.draw import Draw
from mmm.core.errors import BadRecord
from mmm.core.layout import Layout
from mmm.core.modality import Modality
from mmm.core.objective import Answer
from mmm.core.picture import Marked, Picture
from mmm.core.tokens import Tokens
from mmm.nn.positions import LearnedPositions, sinusoidal

log = logging.getLogger("mmm")

Positions = Literal["none", "learned", "sinusoidal"]

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

    def __call__(self, length: int, draw: Draw | None) -> slice:
        """Which of ``length`` neighbours are read; without a draw, the first."""
        if length <= self.room:
            return slice(0, length)
        if self.cuts == 0:
            log.warning(
                "a %s is cut to the %d that max_length leaves room for; this is said once", self.noun.format(length), self.room
            )
        self.cuts += 1
        start = 0 if draw is None else int(draw.stream("crop").integers(length - self.room + 1))
        return slice(start, start + self.room)


class IdTokenizer(Protocol):
    """What ``IdModality`` asks of its tokenizer: how many ids, which is the mask, how long a piece can be."""

    max_length: int

    @property
    def size(self) -> int: ...

    @property
    def mask(self) -> int: ...

    @property
    def fences(self) -> frozenset[int]: ...

    def detokenize(self, content_R: Tensor) -> str: ...


class IdModality(Modality):
    """A modality whose content is ids: one embedding row an id, the mask id's row at hidden tokens.

    Args:
        positions: absolute positions added to the embedding; "none" where the encoder's are rotary.
        norm: LayerNorm after them (BERT, ModernBERT). eps: of it.
    """

    def __init__(self, positions: Positions, norm: bool, eps: float = 1e-5):
        super().__init__()
        self.positions, self.with_norm, self.eps = positions, norm, eps

    @property
    def ids(self) -> IdTokenizer:
        return self.tokenizer  # type: ignore[return-value]

    def build(self, width: int) -> None:
        """One row an id (normal, std 0.02: BERT), positions and norm as asked."""
        self.embedding = nn.Embedding(self.ids.size, width)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.position = LearnedPositions((self.ids.max_length,), width) if self.positions == "learned" else None
        self.norm = nn.LayerNorm(width, eps=self.eps) if self.with_norm else nn.Identity()

    def embed(self, content_R: Tensor, layout_N: Layout, hidden_N: Tensor) -> Tensor:
        """x_ND. A hidden token is embedded as the mask id, so weights can be exchanged with BERT and ESM."""
        x_ND = self.embedding(torch.where(hidden_N, self.ids.mask, content_R))
        if self.position is not None:
            x_ND = x_ND + self.position(layout_N.position_TC, 1)
        elif self.positions == "sinusoidal":
            x_ND = x_ND + sinusoidal(layout_N.position_TC, x_ND.shape[1], 1).to(x_ND.dtype)
        normed_ND: Tensor = self.norm(x_ND)
        return normed_ND

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
        entries = [e for e in zip(shown, marks, ids, strict=True) if e[2] not in self.ids.fences]
        for seen, run in groupby(entries, key=lambda e: e[1] == "seen"):
            if seen:
                words.append((self._string(*(i for i, _, _ in run)), "seen", ""))
            else:
                words += [(self._string(i), mark, self._string(true)) for i, mark, true in run]
        return tuple(words)

    def _string(self, *ids: int) -> str:
        return self.ids.detokenize(torch.tensor(ids)).strip() or "\u2423"  # an open box for white space
