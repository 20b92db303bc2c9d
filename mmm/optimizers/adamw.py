"""Adam with decoupled weight decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from mmm.core.optimizer import Optimizer


@dataclass
class AdamW(Optimizer):
    """AdamW, the library's fused one.

    Paper: arXiv:1711.05101.

    Args:
        lr, weight_decay, warmup, decay, final, clip: see ``Optimizer``. betas, eps: of Adam.
    """

    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8

    def make(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=True)
