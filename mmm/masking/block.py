"""Rectangles of the token grid.

Shape suffixes: T packed tokens, S segments, P proposed blocks, C coordinates.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from mmm.core.draw import Draw
from mmm.core.masking import Masking
from mmm.core.rate import Rate
from mmm.core.tokens import Tokens


class Block(Masking):
    """Hide random rectangles one after the other until the count is reached; the last one is cut to the exact count.

    A block has between ``low`` and ``high`` of the segment's area and a random aspect ratio, in as many dimensions as the
    modality has coordinates (an interval of text, a rectangle of an image). Blocks may overlap.

    Paper: BEiT, arXiv:2106.08254, algorithm 1 (blocks of at least 16 of 196 patches, aspect 0.3 to 1/0.3; BEiT's count is
    not exact).

    Args:
        rate: share of the maskable tokens to hide. low, high: smallest and largest share of the area a block takes.
        aspect: smallest ratio of two sides; the largest is its inverse.
    """

    _proposals = 32

    def __init__(self, rate: float | Rate = 0.4, low: float = 0.08, high: float = 0.25, aspect: float = 0.3):
        super().__init__(rate)
        if not 0 < low <= high <= 1 or not 0 < aspect <= 1:
            raise ValueError(f"Block(low={low}, high={high}, aspect={aspect}): needs 0 < low <= high <= 1 and 0 < aspect <= 1")
        self.low, self.high, self.aspect = low, high, aspect

    def rank(self, tokens: Tokens, progress: float, draw: Draw) -> Tensor:
        layout = tokens.layout
        rank_T = torch.full((len(layout),), float(self._proposals))
        for i, name in enumerate(tokens.names):
            index_N = (layout.modality_T == i).nonzero()[:, 0]
            if len(index_N):
                c = tokens.tokenizers[name].coordinates
                rank_T[index_N] = self._rank(tokens, index_N, c, draw.stream(name))
        return rank_T + draw.per_token(layout)  # inside one block, and outside all, in random order

    def _rank(self, tokens: Tokens, index_N: Tensor, c: int, draw: Draw) -> Tensor:
        """Number of the first block that covers each token; the number of proposals where none does."""
        layout = tokens.layout
        segment_N = layout.segment_T[index_N]
        position_NC = layout.position_TC[index_N, -c:]
        free_N1 = layout.maskable_T[index_N, None]
        at_NC = segment_N[:, None].expand(-1, c)
        shape = (layout.segments, c)
        low_SC = torch.full(shape, torch.inf).scatter_reduce(0, at_NC, position_NC.where(free_N1, torch.inf), "amin")
        high_SC = torch.full(shape, -torch.inf).scatter_reduce(0, at_NC, position_NC.where(free_N1, -torch.inf), "amax")
        extent_S1C = (high_SC - low_SC + 1).clamp(min=1)[:, None]
        proposal_P = torch.arange(self._proposals) * (2 + 2 * c)
        uniform_S = partial(draw.uniform, *(n[:, None] for n in (layout.sample_S, layout.epoch_S, layout.part_S)))
        area_SP1 = self.low + (self.high - self.low) * uniform_S(proposal_P)[..., None]
        # Log-uniform ratios to the last side, then factors of geometric mean 1: a box of that share of the volume.
        log_SPC = torch.stack(
            [uniform_S(proposal_P + 2 + d) * 2 - 1 for d in range(c - 1)] + [torch.zeros_like(area_SP1[..., 0])], -1
        )
        log_SPC = (log_SPC - log_SPC.mean(-1, keepdim=True)) * (-math.log(self.aspect) / max(1, c - 1))
        side_SPC = (area_SP1 ** (1 / c) * log_SPC.exp() * extent_S1C).round().clamp(min=1).minimum(extent_S1C)
        corner_SPC = torch.stack([uniform_S(proposal_P + 2 + c + d) for d in range(c)], -1)
        corner_SPC = low_SC[:, None] + (corner_SPC * (extent_S1C - side_SPC + 1)).floor()
        offset_NPC = position_NC[:, None] - corner_SPC[segment_N]
        inside_NP = ((offset_NPC >= 0) & (offset_NPC < side_SPC[segment_N])).all(-1)
        first_N = inside_NP.byte().argmax(1)  # the first of the largest: the first block that covers it
        return torch.where(inside_NP.any(1), first_N, self._proposals).float()
