"""What both models are asked before an import is believed.

Shape suffixes: N tokens of a record.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from mmm.core.draw import Draw
from mmm.core.tokens import Piece

LENGTHS = (3, 17, 9, 40, 17)
"""Tokens of the probe's records, specials among them: ragged, and two alike."""


def id_pieces(
    choices: torch.Tensor, cls: int, sep: int, mask: int, longest: int, lengths: Sequence[int] = LENGTHS
) -> list[Piece]:
    """Records of random ids between two fences; in all but the first, some are masked."""
    pieces = []
    for number, length in enumerate(lengths):
        draw, n = Draw(0).stream("probe").at(number, 0), min(length, longest) - 2
        ids = choices[draw.stream("ids").integers(len(choices), torch.arange(n))]
        if number:
            ids = torch.where(draw.stream("mask").uniform(torch.arange(n)) < 0.2, mask, ids)
        content = torch.cat([torch.tensor([cls]), ids, torch.tensor([sep])])
        maskable = (content != cls) & (content != sep) & (content != mask)
        pieces.append(Piece(content, torch.arange(len(content)), maskable=maskable))
    return pieces


def difference(ours: Any, theirs: Any) -> float:
    """The largest absolute difference of two lists of tensors.

    Raises:
        ValueError: shapes differ, or a number is not finite.
    """
    worst = 0.0
    for a, b in zip(ours, theirs, strict=True):
        if a.shape != b.shape:
            raise ValueError(f"outputs of shape {tuple(a.shape)} here and {tuple(b.shape)} there")
        if a.numel():
            gap = (a.double() - b.double()).abs().max()
            if not bool(torch.isfinite(gap)):
                raise ValueError("outputs that are not finite")
            worst = max(worst, float(gap))
    return worst
