"""The best guesses that look at no context; the skill of a model is measured against them.

Shape suffixes: N asked tokens, V output size.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from .target import Baseline


class Unigram(Baseline):
    """Add-one unigram over ids: -log((count + 1) / (total + size)).

    Args:
        truths: ids of training tokens, in any number of tensors. size: V.
    """

    description = "add-one unigram of the training records"

    def __init__(self, truths: Iterable[Tensor], size: int):
        count_V = torch.zeros(size, dtype=torch.float64)
        for truth_N in truths:
            count_V += torch.bincount(truth_N.cpu(), minlength=size)
        self.loss_V = -((count_V + 1) / (count_V.sum() + size)).log()

    def loss(self, truth_N: Tensor) -> Tensor:
        return self.loss_V[truth_N.cpu()]


class MeanVector(Baseline):
    """The training mean of a vector-valued truth; its error is the mean square over the components.

    Args:
        truths: (N, V) of training tokens, in any number of tensors.
    """

    description = "mean of the training records"

    def __init__(self, truths: Iterable[Tensor]):
        total, count = None, 0
        for truth_NV in truths:
            part = truth_NV.cpu().double().sum(0)
            total = part if total is None else total + part
            count += len(truth_NV)
        if total is None:
            raise ValueError("no training tokens to take a mean of")
        self.mean_V = total / count

    def loss(self, truth_N: Tensor) -> Tensor:
        return (truth_N.cpu().double() - self.mean_V).square().mean(-1)
