"""Orthogonal steps for the matrices inside the network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from mmm.core.optimizer import Optimizer


@dataclass
class Muon(Optimizer):
    """Muon, of timm: the momentum of a matrix inside encoder or decoder is made orthogonal by Newton-Schulz steps; all else
    (embeddings, heads, norms, biases) is AdamW's, with Nesterov's momentum where the matrices have it. Steps are scaled to
    the size of AdamW's, so one rate serves both.

    Paper: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; the scale: arXiv:2502.16982, section 2.2.

    Args:
        lr, weight_decay, warmup, decay, final, clip: see ``Optimizer``. momentum, nesterov: of the matrices.
        betas: of AdamW.
    """

    momentum: float = 0.95
    nesterov: bool = True
    betas: tuple[float, float] = (0.9, 0.95)

    def make(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        from timm.optim.muon import Muon as Library

        ready = [{**group, "use_fallback": not group["hidden"]} for group in groups]
        return Library(ready, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov, betas=self.betas)
