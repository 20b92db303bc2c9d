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


def id_pieces(tokenizer: Any, lengths: Sequence[int] = LENGTHS) -> list[Piece]:
    """Records of random ids as a tokenizer of ids would make them, where it tells two texts apart every other one of two; in
    all but the first, some tokens are masked."""
    pieces = []
    for number, length in enumerate(lengths):
        draw, frame = Draw(0).stream("probe").at(number, 0), tokenizer.frames[number % 2 if tokenizer.coordinates > 1 else 0]
        n = max(len(frame.types), min(length, tokenizer.max_length) - len(frame))
        ids = tokenizer.choices[draw.stream("ids").integers(len(tokenizer.choices), torch.arange(n))]
        if number:
            ids = torch.where(draw.stream("mask").uniform(torch.arange(n)) < 0.2, tokenizer.mask, ids)
        texts = ids.tensor_split(len(frame.types))
        id_N = frame.around(texts)
        place_N = torch.arange(len(id_N))
        positions = torch.stack([frame.types_of(texts), place_N], 1) if tokenizer.coordinates > 1 else place_N
        pieces.append(Piece(id_N, positions, maskable=torch.isin(id_N, tokenizer.choices)))
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
