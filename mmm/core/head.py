"""From a width to a target's output. Heads have one address: ``model.heads["<path>/<modality>/<target>"]``.

Shape suffixes: N asked tokens, D width, V output size.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

HeadKind = Literal["linear", "transform", "tied", "cosine"]


class Head(nn.Module):
    """One of four heads.

    - ``linear``: one product.
    - ``transform``: dense, GELU, LayerNorm, then the product (BERT, arXiv:1810.04805; ESM-2's is the same).
    - ``tied``: ``transform`` whose product is the modality's own embedding (BERT, ESM-2).
    - ``cosine``: projection to 256, cosine similarity with learned codes over a temperature of 0.1 (HuBERT,
    arXiv:2106.07447, eq. 3).

    Args:
        width: D. size: V.
        tied: (V, D) the embedding a tied head shares.
        eps: of the LayerNorm.
    """

    def __init__(self, kind: HeadKind, width: int, size: int, tied: Tensor | None = None, eps: float = 1e-5):
        super().__init__()
        self.kind, self.size = kind, size
        if kind in ("transform", "tied"):
            self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width, eps=eps))
        if kind == "tied":
            if tied is None:
                raise ValueError("a tied head needs a modality with an embedding of ids; choose linear or transform")
            if tied.shape != (size, width):
                raise ValueError(
                    f"a tied head needs an embedding of shape {(size, width)}, the modality has {tuple(tied.shape)}"
                )
            self.weight = tied
            self.bias = nn.Parameter(torch.zeros(size))
        elif kind == "cosine":
            self.project = nn.Linear(width, 256)
            self.codes = nn.Parameter(torch.randn(size, 256))
        else:
            self.output = nn.Linear(width, size)

    def forward(self, y_ND: Tensor) -> Tensor:
        """output_NV."""
        if self.kind == "cosine":
            y = nn.functional.normalize(self.project(y_ND).float(), dim=-1)
            return y @ nn.functional.normalize(self.codes.float(), dim=-1).T / 0.1
        if self.kind == "linear":
            return self.output(y_ND)  # type: ignore[no-any-return]
        y_ND = self.transform(y_ND)
        return nn.functional.linear(y_ND, self.weight, self.bias) if self.kind == "tied" else self.output(y_ND)
