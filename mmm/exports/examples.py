"""Records as a tokenizer makes them, of several lengths, to trace a model with and to compare answers on.

Shape suffixes: R content rows, L samples, H x W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmm.core.draw import Draw
from mmm.core.errors import BadRecipe
from mmm.core.modality import Tokenizer
from mmm.core.tokens import Piece
from mmm.modalities._patches import ImageTokenizer
from mmm.modalities._waveforms import SoundTokenizer

LENGTHS = (200, 3, 41, 17, 2)
"""Rows of the examples, where a tokenizer makes so many; the first is long, so that a local rule is seen at work."""

SHARES = (1.0, 0.3, 0.6, 0.1)
"""Lengths of sounds, of the longest that is read, or of 1.5 s."""


def examples(tokenizer: Tokenizer, where: str) -> list[Piece]:
    """Some records, the same ones every time.

    Args:
        where: what they are for, in errors.

    Raises:
        BadRecipe: a tokenizer of another package whose raw values nothing is known of.
    """
    longest = getattr(tokenizer, "max_length", max(LENGTHS))
    lengths = sorted({min(n, longest) for n in LENGTHS}, reverse=True)
    if tokenizer.choices is not None:
        return [_ids(tokenizer, n) for n in lengths]
    if isinstance(tokenizer, SoundTokenizer):
        most = min(tokenizer._most(tokenizer.rate), int(1.5 * tokenizer.rate))
        return [p for p in (_sound(tokenizer, int(share * most)) for share in SHARES) if p is not None]
    if isinstance(tokenizer, ImageTokenizer):
        return [_image(tokenizer, number) for number in range(3)]
    if tokenizer.rowwise and tokenizer.coordinates == 1:
        shape = tokenizer.empty().shape[1:]
        return [Piece(_noise(n, n, *shape), torch.arange(n)) for n in lengths]
    raise BadRecipe(f"{where}: nothing is known of what {type(tokenizer).__name__} reads, so no example can be made")


def _ids(tokenizer: Tokenizer, length: int) -> Piece:
    """Random ids, masks among them, standing as those of one text do."""
    assert tokenizer.choices is not None
    draw, at_R = Draw(0).stream("example").at(length), torch.arange(length)
    ids = tokenizer.choices[draw.stream("ids").integers(len(tokenizer.choices), at_R)]
    if (mask := getattr(tokenizer, "mask", None)) is not None:
        ids = torch.where(draw.stream("mask").uniform(at_R) < 0.1, mask, ids)
    positions = torch.nn.functional.pad(at_R[:, None], (tokenizer.coordinates - 1, 0))
    return Piece(ids, positions)


def _sound(tokenizer: SoundTokenizer, samples: int) -> Piece | None:
    """Noise; None where it is too short for the tokenizer."""
    try:
        return tokenizer.tokenize((0.1 * _noise(samples, samples), tokenizer.rate))
    except ValueError:
        return None


def _image(tokenizer: ImageTokenizer, number: int) -> Piece:
    """Noise."""
    height, width = (
        (tokenizer.side, tokenizer.side) if tokenizer.side else (tokenizer.patch * (2 + number), tokenizer.patch * 3)
    )
    pixels = (_noise(number, tokenizer.channels * height * width) + 1) / 2
    return tokenizer.tokenize(pixels.view(tokenizer.channels, height, width))


def _noise(number: int, *shape: int) -> Tensor:
    """Uniform in -1..1."""
    count = torch.Size(shape).numel()
    return 2 * Draw(0).stream("noise").at(number).uniform(torch.arange(count)).view(shape) - 1
