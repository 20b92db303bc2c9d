"""From a width to a target's output. Heads have one address: ``model.heads["<path>/<modality>/<target>"]``.

Shape suffixes: N asked tokens, D width, V output size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

HeadKind = Literal["linear", "norm", "dense", "transform", "tied", "cosine"]


@dataclass
class HeadSettings:
    """A head with other numbers than the usual ones, as imported models have them.

    Args:
        kind: see ``Head``. eps: of its LayerNorm. bias: on the dense product and the LayerNorm before the last product.
    """

    kind: HeadKind = "linear"
    eps: float = 1e-5
    bias: bool = True


class Head(nn.Module):
    """One of six heads.

    - ``linear``: one product.
    - ``norm``: LayerNorm, then the product (BEiT, arXiv:2106.08254).
    - ``dense``: dense, GELU, then the product (ELECTRA's discriminator, arXiv:2003.10555).
    - ``transform``: dense, GELU, LayerNorm, then the product (BERT, arXiv:1810.04805; ESM-2's is the same).
    - ``tied``: ``transform`` whose product is the modality's own embedding (BERT, ESM-2).
    - ``cosine``: projection to 256, cosine similarity with learned codes over a temperature of 0.1 (HuBERT,
    arXiv:2106.07447, eq. 3).

    Args:
        settings: kind and numbers. width: D. size: V.
        tied: (V, E) the embedding a tied head shares; E is D but for factorised embeddings.
    """

    def __init__(self, settings: HeadKind | HeadSettings, width: int, size: int, tied: Tensor | None = None):
        super().__init__()
        if not isinstance(settings, HeadSettings):
            settings = HeadSettings(settings)
        kind, eps, bias = settings.kind, settings.eps, settings.bias
        self.kind, self.size = kind, size
        self.transform: nn.Module = nn.Identity()
        if kind == "tied":
            if tied is None:
                raise ValueError("a tied head needs a modality with an embedding of ids; choose linear or transform")
            if tied.shape[0] != size:
                raise ValueError(f"a tied head needs an embedding of {size} rows, the modality has {tuple(tied.shape)}")
            self.transform = _transform(width, tied.shape[1], eps, bias)
            self.weight = tied
            self.bias = nn.Parameter(torch.zeros(size))
        elif kind == "cosine":
            self.project = nn.Linear(width, 256)
            self.codes = nn.Parameter(torch.randn(size, 256))
        else:
            if kind == "transform":
                self.transform = _transform(width, width, eps, bias)
            elif kind == "dense":
                self.transform = nn.Sequential(nn.Linear(width, width, bias=bias), nn.GELU())
            elif kind == "norm":
                self.transform = nn.LayerNorm(width, eps=eps, bias=bias)
            self.output = nn.Linear(width, size)

    def forward(self, y_ND: Tensor) -> Tensor:
        """output_NV."""
        if self.kind == "cosine":
            y = nn.functional.normalize(self.project(y_ND).float(), dim=-1)
            return y @ nn.functional.normalize(self.codes.float(), dim=-1).T / 0.1
        y_ND = self.transform(y_ND)
        return nn.functional.linear(y_ND, self.weight, self.bias) if self.kind == "tied" else self.output(y_ND)


def _transform(width: int, out: int, eps: float, bias: bool) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, out, bias=bias), nn.GELU(), nn.LayerNorm(out, eps=eps, bias=bias))
