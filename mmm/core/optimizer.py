"""The optimiser and its schedule, as plain numbers of a recipe."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn


@dataclass
class AdamW:
    """AdamW (arXiv:1711.05101) with a linear warm-up and a decay that are functions of the step alone, so a resumed run
    needs no state.

    Args:
        lr: peak learning rate. betas, eps: of Adam. weight_decay: of matrices; norms, biases and single vectors have none.
        warmup: steps of linear warm-up. decay: how the rate falls after it. final: share of the peak that is left at the end.
        clip: largest norm of the whole gradient; None: no clipping.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    weight_decay: float = 0.01
    warmup: int = 0
    decay: Literal["linear", "cosine", "constant"] = "cosine"
    final: float = 0.0
    clip: float | None = 1.0

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The optimiser over every parameter that is trained, fused."""
        trained = [p for p in parameters if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim >= 2], "weight_decay": self.weight_decay},
            {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW([g for g in groups if g["params"]], lr=self.lr, betas=self.betas, eps=self.eps, fused=True)

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step number ``step`` (from 0) of ``steps``."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        done = min(1.0, (step - self.warmup) / max(1, steps - self.warmup))
        if self.decay == "constant":
            return self.lr
        left = 1 - done if self.decay == "linear" else (1 + math.cos(math.pi * done)) / 2
        return self.lr * (self.final + (1 - self.final) * left)
