"""Adam with decoupled weight decay."""

from __future__ import annotations

from typing import Any, Literal

import torch

from mmm.core.optimizer import Optimizer


class AdamW(Optimizer):
    """AdamW, the library's fused one.

    Paper: arXiv:1711.05101.

    Args:
        lr, weight_decay, warmup, decay, final, clip: see ``Optimizer``. betas, eps: of Adam.
    """

    def __init__(
        self,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        warmup: int = 0,
        decay: Literal["linear", "cosine", "constant"] = "cosine",
        final: float = 0.0,
        clip: float | None = 1.0,
    ):
        super().__init__(lr, weight_decay, warmup, decay, final, clip)
        self.betas, self.eps = betas, eps

    def make(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=True)
