"""The sign of a momentum as the step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from mmm.core.optimizer import Optimizer


@dataclass
class Lion(Optimizer):
    """Lion, of timm: one state a parameter where AdamW has two. Its rate is 3 to 10 times smaller than AdamW's, its weight
    decay as many times larger.

    Paper: arXiv:2302.06675.

    Args:
        lr, weight_decay, warmup, decay, final, clip: see ``Optimizer``. betas: of the step and of the momentum.
    """

    lr: float = 1e-4
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.99)

    def make(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        from timm.optim.lion import Lion as Library

        return Library(groups, lr=self.lr, betas=self.betas)
