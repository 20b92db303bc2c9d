"""The transformer encoder.

Shape suffixes: K kept tokens, D width, S segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from mmm.core.layout import Layout
from mmm.core.network import Encoded, Encoder
from mmm.core.rule import Rule, Window, compose
from mmm.nn.block import Activation, Block, Norm, Order, initialise, make_norm
from mmm.nn.relative import Grid, RelativeBias
from mmm.nn.rotary import angles


@dataclass
class Local:
    """Local attention in all layers but every ``every``-th (ModernBERT).

    Args:
        reach: tokens on either side. every: one layer in so many is global, the first among them. theta: of the local
            layers' rotary positions.
    """

    reach: int = 64
    every: int = 3
    theta: float = 10000.0


class Transformer(Encoder):
    """A stack of blocks.

    BERT and HuBERT base: ``order: post``. ViT, MAE: the defaults. ESM-2: ``rotary: 1``. ModernBERT: ``rotary: 1, theta: 160000,
    activation: geglu, bias: false, local: {}, first_norm: false``.

    Paper: Vaswani et al. 2017, arXiv:1706.03762; pre-norm: arXiv:2002.04745.

    Args:
        width: D. depth: blocks. heads: of attention.
        ff: hidden width of the MLP; 4 x width by default.
        norm: LayerNorm or RMSNorm. order: norms before each branch, with one more at the end, or after each residual sum.
        activation: of the MLP; geglu and swiglu are gated. bias: on products and LayerNorms.
        rotary: how many coordinates turn queries and keys; 0: none. theta: base of the wavelengths.
        local: local attention in most layers. dropout: on both branches of every block.
        init_std: standard deviation of the initial weights (BERT); null: Xavier uniform (MAE).
        eps: of the norms. scale: first value of a learned factor on each channel of every branch (BEiT); null: no factor.
        first_norm: a norm before the first attention, too (not in ModernBERT, whose embedding is normed). last_norm: with
            ``order: pre``, one after the last block.
        qkv_bias: biases of queries, keys and values, where ``bias`` is on.
        relative: relative positions on a grid, added to the products of attention (BEiT); null: none.
        half: frequencies of rotary positions rounded to half precision, as checkpoints trained in it keep them (ESM-2).
    """

    def __init__(
        self,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        ff: int | None = None,
        norm: Norm = "layer",
        order: Order = "pre",
        activation: Activation = "gelu",
        bias: bool = True,
        rotary: int = 0,
        theta: float = 10000.0,
        local: Local | None = None,
        dropout: float = 0.0,
        init_std: float | None = 0.02,
        eps: float = 1e-5,
        scale: float | None = None,
        first_norm: bool = True,
        last_norm: bool = True,
        qkv_bias: bool = True,
        relative: Grid | None = None,
        half: bool = False,
    ):
        super().__init__()
        if width < 1 or heads < 1:
            raise ValueError(f"width {width}, heads {heads}: both are 1 or more")
        if width % heads or (rotary and width // heads % 2):
            raise ValueError(f"width {width}, heads {heads}: a head needs a whole width, an even one for rotary positions")
        if not 0 <= rotary <= 3:
            raise ValueError(f"rotary {rotary}: a token has 1 to 3 coordinates; 0 switches rotary positions off")
        if depth < 1:
            raise ValueError(f"depth {depth}: an encoder needs at least one block")
        self.width, self.depth, self.heads, self.ff = width, depth, heads, ff or 4 * width
        self.kind, self.order, self.activation = norm, order, activation  # what an export asks of it
        self.bias, self.qkv_bias, self.dropout, self.eps, self.scale = bias, bias and qkv_bias, dropout, eps, scale
        self.first_norm, self.last_norm = first_norm, order == "pre" and last_norm
        self.rotary, self.theta, self.local, self.grid, self.half_frequencies = rotary, theta, local, relative, half
        self.blocks = nn.ModuleList(
            Block(width, heads, self.ff, norm, order, activation, bias, dropout, eps, scale, qkv_bias) for _ in range(depth)
        )
        if not first_norm:
            self.blocks[0].norm1 = nn.Identity()
        self.relative = RelativeBias(relative, heads) if relative is not None and relative.shared else None
        if relative is not None and not relative.shared:
            for block in self.blocks:
                block.relative = RelativeBias(relative, heads)
        self.norm = make_norm(norm, width, bias, eps) if self.last_norm else nn.Identity()
        initialise(self.blocks, init_std)

    def forward(
        self, x_KD: Tensor, layout_K: Layout, rule: Rule | None = None, time_S: Tensor | None = None, want: Sequence[int] = ()
    ) -> Encoded:
        """Raises ValueError where a noise level arrives: this encoder has no place for one."""
        if time_S is not None:
            raise ValueError("Transformer takes no noise level (time_S); choose an encoder that is conditioned on time")
        head = self.width // self.heads
        half = self.half_frequencies
        turn = angles(layout_K.position_TC, head, self.rotary, self.theta, half) if self.rotary else None
        near = turn
        if self.local is not None and self.rotary:
            near = angles(layout_K.position_TC, head, self.rotary, self.local.theta, half)
        window = self._window(layout_K)
        places = self.grid.places(layout_K) if self.grid is not None else None
        bias = self.relative(places) if self.relative is not None else None  # one for all blocks
        layers = {0: x_KD} if 0 in want else {}
        for i, block in enumerate(self.blocks):
            local = self.local is not None and i % self.local.every != 0
            if self.grid is not None and not self.grid.shared:
                bias = block.relative(places)
            x_KD = block(x_KD, layout_K, compose(rule, window) if local else rule, near if local else turn, bias)
            if i + 1 in want:
                layers[i + 1] = x_KD
        return Encoded(self.norm(x_KD), layers)

    def _window(self, layout_K: Layout) -> Window | None:
        """The local rule, unless every segment fits inside it: no window then, and the fast path."""
        if self.local is None or max(layout_K.lengths, default=0) <= self.local.reach + 1:
            return None
        return Window(self.local.reach)
