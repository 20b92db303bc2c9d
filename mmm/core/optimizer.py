"""The optimiser and its schedule, as plain numbers of a recipe."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

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

    def build(
        self, parameters: Iterable[nn.Parameter], factors: Mapping[nn.Parameter, float] | None = None
    ) -> torch.optim.Optimizer:
        """The optimiser over every parameter that is trained, fused.

        Args:
            factors: on the learning rate, of single parameters; 1 where none is named.

        Raises:
            ValueError: nothing is trained.
        """
        groups: dict[tuple[bool, float], dict[str, Any]] = {}
        for parameter in parameters:
            if parameter.requires_grad:
                decays, factor = parameter.ndim >= 2, (factors or {}).get(parameter, 1.0)
                decay = self.weight_decay if decays else 0.0
                group = groups.setdefault((decays, factor), {"params": [], "weight_decay": decay, "factor": factor})
                group["params"].append(parameter)
        if not groups:
            raise ValueError("nothing is trained: every parameter is frozen")
        ordered = [groups[key] for key in sorted(groups, key=lambda k: (-k[0], -k[1]))]
        return torch.optim.AdamW(ordered, lr=self.lr, betas=self.betas, eps=self.eps, fused=True)

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step number ``step`` (from 0) of ``steps``."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        done = min(1.0, (step - self.warmup) / max(1, steps - self.warmup))
        if self.decay == "constant":
            return self.lr
        left = 1 - done if self.decay == "linear" else (1 + math.cos(math.pi * done)) / 2
        return self.lr * (self.final + (1 - self.final) * left)
