"""How much is hidden. A schedule is a function of progress, a drawn rate a function of the record.

Shape suffixes: S segments.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from .draw import Draw
from .layout import Layout


class Rate(ABC):
    """The share of maskable tokens to hide, one value a segment."""

    @abstractmethod
    def __call__(self, layout: Layout, progress: float, draw: Draw) -> Tensor:
        """rate_S, float64 in [0, 1]. ``progress`` is the share of training done, 0 to 1."""


class Constant(Rate):
    """The same rate always."""

    def __init__(self, rate: float):
        if not 0 <= rate <= 1:
            raise ValueError(f"rate {rate}: a share of the tokens lies in [0, 1]")
        self.rate = float(rate)

    def __call__(self, layout: Layout, progress: float, draw: Draw) -> Tensor:
        return torch.full((layout.segments,), self.rate, dtype=torch.float64)


def as_rate(rate: float | Rate) -> Rate:
    """A number is a constant rate."""
    return rate if isinstance(rate, Rate) else Constant(rate)
