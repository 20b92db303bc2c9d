"""A small transformer over all tokens, the dropped ones as a learned vector.

Shape suffixes: T packed tokens, K kept tokens, N asked tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmm.core.network import Decoder
from mmm.core.view import View
from mmm.nn.block import Block, initialise, make_norm
from mmm.nn.positions import sinusoidal


class TransformerDecoder(Decoder):
    """MAE's decoder: project, put a mask vector at every dropped token, add fixed positions, a few blocks, read what is asked.

    Paper: MAE, arXiv:2111.06377, section 3.

    Args:
        width: of the decoder, usually less than the encoder's. depth: blocks. heads: of attention.
    """

    def __init__(self, width: int = 512, depth: int = 8, heads: int = 16):
        super().__init__()
        self.width = width
        self.blocks = nn.ModuleList(Block(width, heads, 4 * width) for _ in range(depth))
        self.norm = make_norm("layer", width)

    def build(self, width: int, names: Sequence[str]) -> None:
        self.project = nn.Linear(width, self.width)
        self.mask_vector = nn.Parameter(torch.empty(len(names), self.width))
        initialise(self)
        if not self.mask_vector.is_meta:
            nn.init.normal_(self.mask_vector, std=0.02)

    def forward(self, x_KD: Tensor, view: View) -> Tensor:
        layout = view.tokens.layout
        x_KD = self.project(x_KD)
        if view.kept_K is None:
            x_TD = x_KD
        else:
            x_TD = self.mask_vector[layout.modality_T].to(x_KD.dtype).index_copy(0, view.kept_K, x_KD)
        coordinates = max(t.coordinates for t in view.tokens.tokenizers.values())
        # Specials have no place: their positions would collide with those of content.
        place_TD = sinusoidal(layout.position_TC, self.width, coordinates) * layout.maskable_T[:, None]
        x_TD = x_TD + place_TD.to(x_TD.dtype)
        for block in self.blocks:
            x_TD = block(x_TD, layout)
        return self.norm(x_TD)[view.read_N]  # type: ignore[no-any-return]
