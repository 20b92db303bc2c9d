"""One vector a segment of packed tokens.

Shape suffixes: K tokens, S segments, D width, H heads, d head width.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mmm.core.layout import Layout

Pooling = Literal["mean", "first", "attention"]
HEAD = 64
"""Width of a head of attention, where the width is a multiple of it."""


class Pool(nn.Module):
    """Tokens of a segment to one vector, without padding; a segment without tokens gets zeros.

    - ``mean``: of all its tokens.
    - ``first``: its first token (CLS, where the modality has one).
    - ``attention``: an attentive probe: one learned query attends to the tokens, with several heads (arXiv:2202.03026,
      section 4.1).

    Args:
        kind: one of the three. width: D.
    """

    def __init__(self, kind: Pooling, width: int):
        super().__init__()
        self.kind = kind
        if kind == "attention":
            self.heads = 1 if width % HEAD else width // HEAD
            self.query = nn.Parameter(torch.empty(self.heads, width // self.heads))
            nn.init.normal_(self.query, std=0.02)
            self.norm = nn.LayerNorm(width)
            self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x_KD: Tensor, layout_K: Layout) -> Tensor:
        """pooled_SD."""
        length_S = torch.tensor(layout_K.lengths, device=x_KD.device)
        if self.kind == "first" and len(x_KD):
            first_SD = x_KD[layout_K.start_S.clamp(max=len(x_KD) - 1)]
            return first_SD * (length_S > 0)[:, None]
        if self.kind == "attention":
            return self._attend(x_KD, layout_K)
        mean_SD = _sum(x_KD.float(), layout_K) / length_S.clamp(min=1)[:, None]
        return mean_SD.to(x_KD.dtype)

    def _attend(self, x_KD: Tensor, layout_K: Layout) -> Tensor:
        x_KD = self.norm(x_KD)
        key_KHd = self.key(x_KD).unflatten(1, (self.heads, -1)).float()
        value_KHd = self.value(x_KD).unflatten(1, (self.heads, -1)).float()
        score_KH = (key_KHd * self.query.float()).sum(-1) * key_KHd.shape[-1] ** -0.5
        segment_KH = layout_K.segment_T[:, None].expand_as(score_KH)
        most_SH = score_KH.new_full((layout_K.segments, self.heads), -torch.inf)
        most_SH = most_SH.scatter_reduce(0, segment_KH, score_KH.detach(), "amax")
        weight_KH = (score_KH - most_SH[layout_K.segment_T]).exp()
        pooled_SHd = _sum(weight_KH[..., None] * value_KHd, layout_K)
        total_SH = _sum(weight_KH, layout_K)
        pooled_SHd = pooled_SHd / total_SH.clamp(min=torch.finfo(torch.float32).tiny)[..., None]
        there_S = torch.tensor(layout_K.lengths, device=x_KD.device) > 0
        pooled_SD: Tensor = self.out(pooled_SHd.flatten(1).to(x_KD.dtype)) * there_S[:, None]
        return pooled_SD


def _sum(value_K: Tensor, layout_K: Layout) -> Tensor:
    """Sums over each segment's tokens."""
    return value_K.new_zeros(layout_K.segments, *value_K.shape[1:]).index_add(0, layout_K.segment_T, value_K)
