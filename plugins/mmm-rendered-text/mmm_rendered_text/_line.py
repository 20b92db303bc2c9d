"""A text on one line.

Shape suffixes: H height, W width.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from mmm_rendered_text._typeface import WHITE, Typeface

CHUNK = re.compile(r"[^ ]{1,64} ?")
"""A word and the blank behind it. Words without end count as several, so that what is drawn at a time is small."""


def composed(text: str) -> str:
    """The text with a character for each letter and its accents where Unicode has one (NFC), and single blanks for all white
    space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def spelled(character: str) -> str:
    r"""What stands for a character that a font lacks: ``\u00e9`` for é."""
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"


class Line:
    """A text laid out from left to right, a patch after every ``height`` pixels.

    Args:
        text: with single blanks. typeface: one that lacks none of its characters.
        apart: every word begins a patch; else words follow each other wherever patches end.
    """

    def __init__(self, text: str, typeface: Typeface, apart: bool):
        self.typeface = typeface
        self.chunks: Sequence[str] = CHUNK.findall(text)
        step = typeface.height if apart else 1
        self.widths = [-(-typeface.width(chunk) // step) * step for chunk in self.chunks]
        self.end = [*accumulate(self.widths)]

    def __len__(self) -> int:
        """Patches: the last one is filled up with white."""
        return -(-self.end[-1] // self.typeface.height)

    def words(self, patches: slice) -> list[int]:
        """The number of the word in which each of some patches begins."""
        return [bisect_right(self.end, n * self.typeface.height) for n in range(patches.start, patches.stop)]

    def drawn(self, patches: slice) -> np.ndarray:
        """pixels_HW of neighbouring patches, uint8. Only what is seen of the text is drawn."""
        left, right = patches.start * self.typeface.height, patches.stop * self.typeface.height
        first, last = bisect_right(self.end, left), bisect_left(self.end, right) + 1
        before = self.end[first - 1] if first else 0
        text_HW = np.concatenate([*map(self.typeface.drawn, self.chunks[first:last], self.widths[first:last])], axis=1)
        seen_HW = text_HW[:, left - before : right - before]
        return np.pad(seen_HW, ((0, 0), (0, right - left - seen_HW.shape[1])), constant_values=WHITE)
