"""Rectangles of the token grid.

Shape suffixes: T packed tokens, S segments, P proposed blocks, C coordinates.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmm.core.draw import Draw
from mmm.core.masking import Masking
from mmm.core.rate import Rate
from mmm.core.tokens import Tokens


class Block(Masking):
    """Hide random rectangles one after the other until the count is reached; the last one is cut to the exact count.

    A block has between ``low`` and ``high`` of the segment's area and a random aspect ratio, in as many dimensions as the modality has
    coordinates (an interval of text, a rectangle of an image). Blocks may overlap.

    Paper: BEiT, arXiv:2106.08254, algorithm 1 (blocks of at least 16 of 196 patches, aspect 0.3 to 1/0.3; BEiT's count is not exact).

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
        extent_SC = (high_SC - low_SC + 1).clamp(min=1)
        rank_N = torch.full((len(index_N),), float(self._proposals))
        for p in reversed(range(self._proposals)):
            number = p * (2 + 2 * c)
            area_S = self.low + (self.high - self.low) * draw.per_segment(layout, number)
            # c log-uniform factors with geometric mean 1 shape a box of that share of the volume.
            log_SC = torch.stack([draw.per_segment(layout, number + 2 + d) for d in range(c)], 1) * 2 - 1
            log_SC = (log_SC - log_SC.mean(1, keepdim=True)) * -torch.tensor(self.aspect).log()
            side_SC = (area_S[:, None] ** (1 / c) * log_SC.exp() * extent_SC).round().clamp(min=1).minimum(extent_SC)
            room_SC = extent_SC - side_SC + 1
            corner_SC = torch.stack([draw.per_segment(layout, number + 2 + c + d) for d in range(c)], 1)
            corner_SC = low_SC + (corner_SC * room_SC).floor()
            offset_NC = position_NC - corner_SC[segment_N]
            inside_N = ((offset_NC >= 0) & (offset_NC < side_SC[segment_N])).all(1)
            rank_N[inside_N] = float(p)
        return rank_N
