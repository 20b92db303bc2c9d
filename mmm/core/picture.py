"""What a modality shows a person: plain data that a report, a terminal or TensorBoard draws in its own way.

Shape suffixes: H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Marked:
    """Words, each with how it is meant: ``seen``, ``hidden``, ``right`` or ``wrong``; ``note`` is what was there."""

    caption: str
    words: tuple[tuple[str, str, str], ...]  # (text, mark, note)


@dataclass(frozen=True)
class Raster:
    """A picture: (H, W) or (H, W, 3) floats in 0..1."""

    caption: str
    pixels: Tensor


Picture = Marked | Raster
