"""A small transformer over all tokens, the dropped ones as a learned vector.

Shape suffixes: T packed tokens, K kept tokens, N asked tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmm.core.network import Decoder
from mmm.core.view import View
from mmm.nn.block import Activation, Block, initialise, make_norm
from mmm.nn.positions import LearnedPositions, sinusoidal


class TransformerDecoder(Decoder):
    """MAE's decoder: project, put a mask vector at every dropped token, add positions, a few blocks, read what is asked.

    Paper: MAE, arXiv:2111.06377, section 3.

    Args:
        width: of the decoder, usually less than the encoder's. depth: blocks. heads: of attention.
        ff: hidden width of the MLP; 4 x width by default. activation: of the MLP. eps: of the norms. qkv_bias: biases of
            queries, keys and values.
        grid: learned positions on a grid of so many rows and columns, and one vector for all specials; by default, fixed sines
            and cosines, and nothing for specials.
    """

    by_modality = ("mask_vector",)

    def __init__(
        self,
        width: int = 512,
        depth: int = 8,
        heads: int = 16,
        ff: int | None = None,
        activation: Activation = "gelu",
        eps: float = 1e-5,
        qkv_bias: bool = True,
        grid: tuple[int, int] | None = None,
    ):
        super().__init__()
        self.width, self.depth, self.heads, self.ff = width, depth, heads, ff or 4 * width
        self.activation, self.eps, self.qkv_bias = activation, eps, qkv_bias
        self.blocks = nn.ModuleList(
            Block(width, heads, self.ff, activation=activation, eps=eps, qkv_bias=qkv_bias) for _ in range(depth)
        )
        self.norm = make_norm("layer", width, eps=eps)
        self.position = LearnedPositions(grid, width) if grid is not None else None
        self.special = nn.Parameter(torch.zeros(width)) if grid is not None else None

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
        if self.position is not None:
            place_TD = self.position(layout.position_TC.clamp(min=0), 2)
            place_TD = torch.where(layout.maskable_T[:, None], place_TD, self.special)
        else:
            coordinates = max(t.coordinates for t in view.tokens.tokenizers.values())
            # Specials have no place: their positions would collide with those of content.
            place_TD = sinusoidal(layout.position_TC, self.width, coordinates) * layout.maskable_T[:, None]
        x_TD = x_TD + place_TD.to(x_TD.dtype)
        for block in self.blocks:
            x_TD = block(x_TD, layout)
        return self.norm(x_TD)[view.read_N]  # type: ignore[no-any-return]
