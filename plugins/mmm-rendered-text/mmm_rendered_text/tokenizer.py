"""Texts to patches of the strip that they are drawn on, and back to the strip.

Shape suffixes: R content rows (one a token), N tokens, H height, W width.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import PIL.Image
import torch
from mmm.core.draw import Draw
from mmm.core.errors import BadRecord
from mmm.core.modality import Record, Tokenizer
from mmm.core.tokens import Piece
from mmm.modalities.image import Image
from mmm.modalities.text import Text
from torch import Tensor

from mmm_rendered_text._line import Line, composed, spelled
from mmm_rendered_text._typeface import Typeface

log = logging.getLogger("mmm")

Raw = str | tuple[str, str]
NAMED = 8
"""Characters that are listed in one message, at most."""


class RenderedTextTokenizer(Tokenizer):
    """One token a patch, from left to right; behind each text a black patch, which is never hidden nor asked.

    Files are read as ``Text`` reads them, strips are cut as ``Image`` cuts pictures; what happens in between is drawing.

    Args:
        texts: whose files are read. image: whose patches are cut; it keeps any width.
        font, max_length, apart, unit, lacking: see ``RenderedText``.
    """

    together = True  # a raw value may be two texts, which are one strip

    def __init__(
        self,
        texts: Text,
        image: Image,
        font: str | None,
        max_length: int,
        apart: bool,
        unit: Literal["patch", "word"],
        lacking: Literal["spell", "refuse"],
    ):
        self.texts, self.image = texts.tokenizer, image.tokenizer
        self.suffixes = self.texts.suffixes
        self.font, self.max_length, self.apart, self.unit, self.lacking = font, max_length, apart, unit, lacking
        self._typeface: Typeface | None = None
        self.said: set[str] = set()  # characters that the font lacks, as far as that was said
        self.cuts = 0  # texts that were longer than max_length; the first is said aloud

    @property
    def typeface(self) -> Typeface:
        """Read when it is first needed: what a checkpoint holds needs no file."""
        if self._typeface is None:
            self._typeface = Typeface.of(self.font, self.image.patch)
        return self._typeface

    @typeface.setter
    def typeface(self, typeface: Typeface) -> None:
        self._typeface = typeface

    def tokenize(self, raw: Raw, draw: Draw | None = None) -> Piece:
        """The patches of one text, or of two on one strip. A longer one than fits is cut to neighbouring patches: with a draw
        anywhere, without one the first; of two, first the longer.

        Raises:
            ValueError: no text or an empty one; with ``lacking: refuse``, a character that the font lacks.
        """
        lines = self._lines(raw)
        kept = self._kept(lines, draw)
        black_HW = np.zeros((self.image.patch, self.image.patch), np.uint8)
        strips = [strip_HW for line, patches in zip(lines, kept, strict=True) for strip_HW in (line.drawn(patches), black_HW)]
        piece = self.image.tokenize(np.concatenate(strips, axis=1))
        end = torch.tensor([p.stop - p.start + 1 for p in kept]).cumsum(0) - 1
        return replace(
            piece,
            positions=torch.arange(len(piece)),
            units=self._words(lines, kept) if self.unit == "word" else None,
            maskable=~torch.isin(torch.arange(len(piece)), end),
            cut=any(p.stop - p.start < len(line) for line, p in zip(lines, kept, strict=True)),
        )

    def detokenize(self, content_R: Tensor) -> PIL.Image.Image:
        """The strip, black patches and all, as a grey picture: its text can be read, and by a person alone."""
        (strip_HW,) = self.image.unpatchify(content_R, (1, len(content_R)))
        return PIL.Image.fromarray(strip_HW.mul(255).round().byte().cpu().numpy())

    def empty(self) -> Tensor:
        return self.image.empty()

    def length(self, record: Record) -> int:
        lines = self._lines(record.raw)
        return sum(self._rooms(lines)) + len(lines)

    def cell(self, value: str, table: Path, row: int) -> Record:
        """The text itself."""
        return self._checked(self.texts.cell(value, table, row))

    def records(self, path: Path) -> Iterator[Record]:
        """The texts of one file: see ``mmm.modalities.text.TextTokenizer.records``.

        Raises:
            BadRecord: as there; with ``lacking: refuse``, a character that the font lacks.
        """
        return map(self._checked, self.texts.records(path))

    def lacks(self, texts: Iterable[str]) -> list[str]:
        """The characters of some texts that the font lacks, sorted."""
        characters = {character for text in texts for character in set(composed(text))}
        return sorted(filter(self.typeface.lacks, characters))

    def tell(self, lacking: Sequence[str]) -> None:
        """Say aloud which characters the font lacks, each once."""
        if new := [character for character in lacking if character not in self.said]:
            self.said.update(new)
            log.warning("%s; they are spelled out so. Name a font that has them.", self._told(new))

    def _told(self, lacking: Sequence[str]) -> str:
        names = [f"{c} ({spelled(c)})" if c.isprintable() else spelled(c) for c in lacking[:NAMED]]
        more = f" and {len(lacking) - NAMED} more" if len(lacking) > NAMED else ""
        return f"the font {self.typeface.name} lacks {', '.join(names)}{more}"

    def _checked(self, record: Record) -> Record:
        if self.lacking == "refuse" and (lacking := self.lacks([record.raw])):
            raise BadRecord(record.path, record.record, self._told(lacking))
        return record

    def _lines(self, raw: Raw) -> list[Line]:
        texts = raw if isinstance(raw, tuple | list) and len(raw) == 2 else (raw,)
        for text in texts:
            if not (isinstance(text, str) and text.strip()):
                raise ValueError(f"what is drawn is a text that is not empty, or two, not {raw!r:.40}")
        lacking = self.lacks(texts)
        if lacking and self.lacking == "refuse":
            raise ValueError(self._told(lacking))
        self.tell(lacking)
        table = str.maketrans({character: spelled(character) for character in lacking})
        return [Line(composed(text).translate(table), self.typeface, self.apart) for text in texts]

    def _rooms(self, lines: Sequence[Line]) -> list[int]:
        """How many patches of each text are read, so that the longer one is cut first."""
        room = self.max_length - len(lines)
        rooms = [min(len(line), room // len(lines)) for line in lines]
        for i, line in enumerate(lines):
            rooms[i] += min(len(line) - rooms[i], room - sum(rooms))
        return rooms

    def _kept(self, lines: Sequence[Line], draw: Draw | None) -> list[slice]:
        """Which patches of each text are read."""
        kept = []
        for i, (line, room) in enumerate(zip(lines, self._rooms(lines), strict=True)):
            if room < len(line):
                if self.cuts == 0:
                    log.warning("a text of %d patches is cut to the %d that max_length leaves; said once", len(line), room)
                self.cuts += 1
            start = 0 if draw is None else int(draw.stream("crop").integers(len(line) - room + 1, i))
            kept.append(slice(start, start + room))
        return kept

    @staticmethod
    def _words(lines: Sequence[Line], kept: Sequence[slice]) -> Tensor:
        """unit_N: the patches of a word are one; so is each black patch."""
        units: list[int] = []
        for line, patches in zip(lines, kept, strict=True):
            words = line.words(patches)
            following = units[-1] + 1 if units else 0
            units += [following + word - words[0] for word in words]
            units.append(units[-1] + 1)
        return torch.tensor(units)
