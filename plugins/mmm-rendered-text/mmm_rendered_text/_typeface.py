"""A font, as large as a line is high: which characters it has, how wide a text is, how it looks.

Shape suffixes: H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
from mmm.core.errors import BadRecipe
from PIL import Image, ImageDraw, ImageFont

NOBODYS = "\U0010ffff"
"""A code point that is never a character: its glyph is the font's box for what it lacks."""

WHITE = 255


@dataclass(frozen=True)
class Typeface:
    """A font at the largest size whose lines fit into a height. Characters stand side by side with the font's kerning; scripts
    that join or reorder their characters are not shaped.

    Args:
        data: a TrueType or OpenType file. height: pixels of a line.
    """

    data: bytes = field(repr=False)
    height: int

    @classmethod
    def of(cls, path: str | None, height: int) -> Typeface:
        """That of a file; None: Aileron Regular (CC0), which comes with Pillow and has ASCII and few characters more.

        Raises:
            BadRecipe: the file cannot be read, or is no font.
        """
        if path is None:
            return cls(ImageFont.load_default(height).font_bytes, height)
        try:
            typeface = cls(Path(path).expanduser().read_bytes(), height)
            _font(typeface)
        except OSError as error:
            reason = error.strerror or f"no TrueType or OpenType font ({error})"
            raise BadRecipe(f"RenderedText(font={path!r}): {reason}") from error
        return typeface

    @property
    def name(self) -> str:
        """Family and style."""
        return " ".join(filter(None, _font(self).getname()))

    def lacks(self, character: str) -> bool:
        """Whether the font has no glyph for a character, or nothing to be seen in it. A blank is never lacking."""
        return character != " " and _lacks(self, character)

    def width(self, text: str) -> int:
        """Pixels that a text takes, rounded up."""
        return _width(self, text)

    def drawn(self, text: str, width: int) -> np.ndarray:
        """pixels_HW of a text at the left of so much paper, uint8, black on white; it belongs to a cache and is not to be
        changed."""
        return _drawn(self, text, width)


@lru_cache(maxsize=8)
def _font(typeface: Typeface) -> ImageFont.FreeTypeFont:
    for size in range(typeface.height, 1, -1):
        font = ImageFont.truetype(BytesIO(typeface.data), size, layout_engine=ImageFont.Layout.BASIC)
        if sum(font.getmetrics()) <= typeface.height:
            break
    return font


@lru_cache(maxsize=2**16)
def _lacks(typeface: Typeface, character: str) -> bool:
    glyph, box = (_font(typeface).getmask(c) for c in (character, NOBODYS))
    return glyph.getbbox() is None or (glyph.size, bytes(glyph)) == (box.size, bytes(box))


@lru_cache(maxsize=2**16)
def _width(typeface: Typeface, text: str) -> int:
    return int(np.ceil(_font(typeface).getlength(text)))


@lru_cache(maxsize=2**14)
def _drawn(typeface: Typeface, text: str, width: int) -> np.ndarray:
    font = _font(typeface)
    image = Image.new("L", (width, typeface.height), WHITE)
    ImageDraw.Draw(image).text((0, font.getmetrics()[0]), text, fill=0, font=font, anchor="ls")
    pixels_HW = np.asarray(image)
    pixels_HW.flags.writeable = False
    return pixels_HW
