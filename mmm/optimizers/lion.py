"""The sign of a momentum as the step."""

from __future__ import annotations

from typing import Any, Literal

import torch

from mmm.core.optimizer import Optimizer


class Lion(Optimizer):
    """Lion, of timm: one state a parameter where AdamW has two. Its rate is 3 to 10 times smaller than AdamW's, its weight
    decay as many times larger.

    Paper: arXiv:2302.06675.

    Args:
        lr, weight_decay, warmup, decay, final, clip: see ``Optimizer``. betas: of the step and of the momentum.
    """

    def __init__(
        self,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.1,
        warmup: int = 0,
        decay: Literal["linear", "cosine", "constant"] = "cosine",
        final: float = 0.0,
        clip: float | None = 1.0,
    ):
        super().__init__(lr, weight_decay, warmup, decay, final, clip)
        self.betas = betas

    def make(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        from timm.optim.lion import Lion as Library

        return Library(groups, lr=self.lr, betas=self.betas)
