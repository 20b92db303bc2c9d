"""Which positions are hidden: a strategy is a random ranking, a rate says how far down the ranking one goes.

Shape suffixes: T packed tokens, S segments, M modalities, U units.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from .draw import Draw
from .layout import Layout
from .rate import Rate, as_rate
from .tokens import Tokens


def hide(rank_T: Tensor, layout: Layout, rate_S: Tensor) -> Tensor:
    """Hide whole units in rank order while the total stays <= round(rate x maskable tokens), per (segment, modality).

    Args:
        rank_T: lower ranks are hidden first; a unit has the rank of its first token; ties fall in packed order.
        layout: a unit with a token that is not maskable is never hidden, nor does it count.
        rate_S: share of the maskable tokens to hide.

    Returns:
        hidden_T. The count is exact where units are one token, and at most one unit short of it elsewhere.
    """
    tokens = len(layout)
    if tokens == 0:
        return torch.zeros(0, dtype=torch.bool)
    group_T = layout.segment_T * (int(layout.modality_T.max()) + 1) + layout.modality_T
    # Units of one piece are neighbours unless pieces of two modalities are interleaved; number them by first appearance.
    new_T = torch.ones(tokens, dtype=torch.bool)
    new_T[1:] = (group_T[1:] != group_T[:-1]) | (layout.unit_T[1:] != layout.unit_T[:-1])
    unit_T = new_T.cumsum(0) - 1
    units = int(unit_T[-1]) + 1
    size_U = torch.bincount(unit_T, minlength=units)
    first_U = size_U.cumsum(0) - size_U
    free_U = torch.bincount(unit_T[layout.maskable_T], minlength=units) == size_U
    group_U, rank_U = group_T[first_U], rank_T[first_U].double()
    weight_U = torch.where(free_U, size_U, 0)
    groups = int(group_T.max()) + 1
    maskable_G = torch.zeros(groups, dtype=torch.int64).index_add_(0, group_U, weight_U)
    rate_G = torch.zeros(groups, dtype=torch.float64)
    rate_G[group_T] = rate_S.double()[layout.segment_T]
    budget_G = torch.round(rate_G * maskable_G).long()  # float64 and half to even, as Python's round
    order_U = torch.argsort(torch.where(free_U, rank_U, torch.inf), stable=True)
    order_U = order_U[torch.argsort(group_U[order_U], stable=True)]
    total = weight_U[order_U].cumsum(0)
    before_G = maskable_G.cumsum(0) - maskable_G
    taken = total - before_G[group_U[order_U]] <= budget_G[group_U[order_U]]
    hidden_U = torch.zeros(units, dtype=torch.bool)
    hidden_U[order_U] = taken & free_U[order_U]
    return hidden_U[unit_T]


class Masking(ABC):
    """A strategy is a random ranking.

    Args:
        rate: share of the maskable tokens of each segment to hide: a number, a schedule, or a drawn rate.
    """

    law: str = "exact"  # "exact": the count of `hide`; otherwise the sentence a method's own law is known by

    def __init__(self, rate: float | Rate = 0.15):
        self.rate = as_rate(rate)

    @abstractmethod
    def rank(self, tokens: Tokens, progress: float, draw: Draw) -> Tensor:
        """rank_T, lower is hidden first. May read ``tokens.aux`` (annotations, a signal)."""

    def rates(self, tokens: Tokens, progress: float, draw: Draw) -> Tensor:
        """rate_S as drawn for this batch."""
        return self.rate(tokens.layout, progress, draw.stream("rate"))

    def hidden(self, tokens: Tokens, progress: float, draw: Draw) -> Tensor:
        """hidden_T. A masking with a count law of its own overrides this and names the law in ``law``."""
        rank_T = self.rank(tokens, progress, draw.stream("rank"))
        return hide(rank_T, tokens.layout, self.rates(tokens, progress, draw))

    def expected(self, tokens: Tokens, progress: float, draw: Draw) -> Tensor:
        """(low_SM, high_SM) stacked: the bounds a segment's count of hidden tokens obeys for each modality.

        The exact law: round(rate x maskable), less at most the longest unit minus one.
        """
        layout = tokens.layout
        shape = (layout.segments, len(tokens.names))
        flat_T = layout.segment_T * shape[1] + layout.modality_T
        size_U = torch.bincount(layout.unit_T)
        free_U = torch.bincount(layout.unit_T[layout.maskable_T], minlength=len(size_U)) == size_U
        free_T = free_U[layout.unit_T]  # a unit that is maskable only in part is never hidden
        maskable = torch.bincount(flat_T[free_T], minlength=shape[0] * shape[1]).view(shape)
        high = torch.round(self.rates(tokens, progress, draw).double()[:, None] * maskable).long()
        slack = torch.zeros(shape[0] * shape[1], dtype=torch.int64)
        slack.scatter_reduce_(0, flat_T[free_T], size_U[layout.unit_T[free_T]] - 1, "amax")
        return torch.stack([(high - slack.view(shape)).clamp(min=0), high])
