"""Rates that change with progress, and rates drawn for each record.

Shape suffixes: S segments.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from mmm.core.draw import Draw
from mmm.core.layout import Layout
from mmm.core.rate import Rate


class Scheduled(Rate):
    """From one rate to another as training goes on (GPT-BERT, arXiv:2410.24159: 0.3 to 0.15).

    Args:
        start, end: the rates at the beginning and at the end. curve: straight, or half a cosine.
    """

    def __init__(self, start: float, end: float, curve: Literal["linear", "cosine"] = "linear"):
        _check(start=start, end=end)
        self.start, self.end, self.curve = start, end, curve

    def __call__(self, layout: Layout, progress: float, draw: Draw) -> Tensor:
        done = progress if self.curve == "linear" else (1 - math.cos(math.pi * progress)) / 2
        return torch.full((layout.segments,), self.start + (self.end - self.start) * done, dtype=torch.float64)


class Drawn(Rate):
    """One rate a record, uniform between two bounds (masked diffusion: 0 to 1).

    Args:
        low, high: the bounds.
    """

    def __init__(self, low: float = 0.0, high: float = 1.0):
        _check(low=low, high=high)
        if low > high:
            raise ValueError(f"Drawn(low={low}, high={high}): low is above high")
        self.low, self.high = low, high

    def __call__(self, layout: Layout, progress: float, draw: Draw) -> Tensor:
        return self.low + (self.high - self.low) * draw.per_segment(layout).double()


class DrawnCosine(Rate):
    """One rate a record, cos(pi/2 x u) of a uniform u: mostly high (MaskGIT, arXiv:2202.04200, section 3.1)."""

    def __call__(self, layout: Layout, progress: float, draw: Draw) -> Tensor:
        return torch.cos(draw.per_segment(layout).double() * (math.pi / 2))


def _check(**rates: float) -> None:
    for name, rate in rates.items():
        if not 0 <= rate <= 1:
            raise ValueError(f"{name} {rate}: a share of the tokens lies in [0, 1]")
