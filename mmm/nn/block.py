"""The transformer block: attention and MLP around a residual, norms before or after.

Shape suffixes: T tokens, D width, F hidden width of the MLP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmm.core.layout import Layout
from mmm.core.rule import Rule

from .attention import Attention

Activation = Literal["gelu", "gelu_tanh", "relu", "geglu", "swiglu"]
Norm = Literal["layer", "rms"]
Order = Literal["pre", "post"]


def make_norm(kind: Norm, width: int, bias: bool = True, eps: float = 1e-5) -> nn.Module:
    """LayerNorm or RMSNorm (arXiv:1910.07467)."""
    return nn.LayerNorm(width, eps=eps, bias=bias) if kind == "layer" else nn.RMSNorm(width, eps=eps)


class MLP(nn.Module):
    """Two products around an activation; gated for ``geglu`` and ``swiglu`` (arXiv:2002.05202)."""

    def __init__(self, width: int, hidden: int, activation: Activation = "gelu", bias: bool = True):
        super().__init__()
        self.activation = activation
        self.gated = activation.endswith("glu")
        self.up = nn.Linear(width, hidden * (2 if self.gated else 1), bias=bias)
        self.down = nn.Linear(hidden, width, bias=bias)

    def forward(self, x_TD: Tensor) -> Tensor:
        x_TF = self.up(x_TD)
        if self.gated:
            x_TF, gate_TF = x_TF.chunk(2, dim=-1)
            x_TF = (F.gelu(x_TF) if self.activation == "geglu" else F.silu(x_TF)) * gate_TF
        elif self.activation == "gelu_tanh":
            x_TF = F.gelu(x_TF, approximate="tanh")
        else:
            x_TF = F.gelu(x_TF) if self.activation == "gelu" else F.relu(x_TF)
        return self.down(x_TF)  # type: ignore[no-any-return]


class Block(nn.Module):
    """One layer.

    Args:
        width: D. heads: of attention. hidden: F.
        norm, order: LayerNorm or RMSNorm, before each branch (ViT, ESM-2, ModernBERT) or after each residual sum (BERT,
            HuBERT base).
        activation, bias: of the MLP and of all products. dropout: on both branches. eps: of the norms.
        scale: first value of a learned factor on each channel of both branches (arXiv:2103.17239); None: no factor.
        qkv_bias: whether query, key and value have a bias where ``bias`` is on.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        norm: Norm = "layer",
        order: Order = "pre",
        activation: Activation = "gelu",
        bias: bool = True,
        dropout: float = 0.0,
        eps: float = 1e-5,
        scale: float | None = None,
        qkv_bias: bool = True,
    ):
        super().__init__()
        self.order = order
        self.attention = Attention(width, heads, bias, qkv_bias)
        self.mlp = MLP(width, hidden, activation, bias)
        self.norm1 = make_norm(norm, width, bias, eps)
        self.norm2 = make_norm(norm, width, bias, eps)
        self.scale1 = nn.Parameter(torch.full((width,), scale)) if scale is not None else None
        self.scale2 = nn.Parameter(torch.full((width,), scale)) if scale is not None else None
        self.relative: nn.Module | None = None  # its own relative positions, put there by an encoder that has them
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x_TD: Tensor,
        layout: Layout,
        rule: Rule | None = None,
        turn: tuple[Tensor, Tensor] | None = None,
        bias: Sequence[Tensor] | None = None,
    ) -> Tensor:
        if self.order == "pre":
            x_TD = x_TD + self._branch(self.attention(self.norm1(x_TD), layout, rule, turn, bias), self.scale1)
            return x_TD + self._branch(self.mlp(self.norm2(x_TD)), self.scale2)
        x_TD = self.norm1(x_TD + self._branch(self.attention(x_TD, layout, rule, turn, bias), self.scale1))
        return self.norm2(x_TD + self._branch(self.mlp(x_TD), self.scale2))  # type: ignore[no-any-return]

    def _branch(self, y_TD: Tensor, scale: Tensor | None) -> Tensor:
        return self.dropout(y_TD if scale is None else y_TD * scale)  # type: ignore[no-any-return]


def initialise(module: nn.Module, std: float | None = None) -> None:
    """Products: normal with this standard deviation, or Xavier uniform (MAE) where it is None; biases 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear) and not part.weight.is_meta:
            if std is None:
                nn.init.xavier_uniform_(part.weight)
            else:
                nn.init.normal_(part.weight, std=std)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
