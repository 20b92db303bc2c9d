"""Metrics of predictions: the value by scikit-learn or torchmetrics, and the same of records that count several times, by sums.

Shape suffixes: N records, L classes or labels, U different values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from mmm.core.errors import BadRecipe, did_you_mean

from .outcome import Answers

Value = Callable[[np.ndarray, np.ndarray], float]
Weighted = Callable[[np.ndarray], float]


def answers(name: str, keys: Sequence[str], truth_N: np.ndarray, answer_N: np.ndarray) -> Answers:
    """One seed's predictions, judged.

    Args:
        name: of the metric. keys: of the records.
        truth_N, answer_N: class numbers; (N, L) indicators, for "macro F1" of several labels; numbers, for the last three.

    Raises:
        ValueError: no such metric.
    """
    if name not in METRICS:
        raise BadRecipe(f"no metric {name!r}. {did_you_mean(name, METRICS)}")
    value, weighted = METRICS[name]
    return Answers(keys, value(truth_N, answer_N), weighted(truth_N, answer_N))


def _sklearn(name: str, truth_N: np.ndarray, answer_N: np.ndarray, **settings: Any) -> float:
    import sklearn.metrics

    return float(getattr(sklearn.metrics, name)(truth_N, answer_N, **settings))


def _torchmetrics(name: str, truth_N: np.ndarray, answer_N: np.ndarray) -> float:
    """0 where one of the two is constant: it orders nothing."""
    import torch
    import torchmetrics.functional

    if np.ptp(truth_N) == 0 or np.ptp(answer_N) == 0:
        return 0.0
    numbers = (torch.from_numpy(np.asarray(x, dtype=np.float64)) for x in (answer_N, truth_N))
    return float(getattr(torchmetrics.functional, name)(*numbers))


def _accuracy(truth_N: np.ndarray, answer_N: np.ndarray) -> Weighted:
    right_N = (truth_N == answer_N).astype(np.float64)
    return lambda weight_N: float(weight_N @ right_N / weight_N.sum())


def _indicators(truth_N: np.ndarray, answer_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, L) of class numbers; indicators stay as they are."""
    if truth_N.ndim == 2:
        return truth_N.astype(np.float64), answer_N.astype(np.float64)
    classes = np.union1d(truth_N, answer_N)
    return (truth_N[:, None] == classes).astype(np.float64), (answer_N[:, None] == classes).astype(np.float64)


def _f1(only: int | None, truth_N: np.ndarray, answer_N: np.ndarray) -> Weighted:
    """Of class ``only``, or the mean over the classes that occur."""
    if only is not None:
        truth_N, answer_N = (truth_N == only)[:, None], (answer_N == only)[:, None]
    truth_NL, answer_NL = _indicators(truth_N, answer_N)
    one_a_record = only is None and truth_N.ndim == 1
    both_NL, named_NL = truth_NL * answer_NL, truth_NL + answer_NL

    def weighted(weight_N: np.ndarray) -> float:
        right_L, named_L = weight_N @ both_NL, weight_N @ named_NL
        f1_L = np.divide(2 * right_L, named_L, out=np.zeros_like(right_L), where=named_L > 0)
        return float(f1_L[named_L > 0].mean() if one_a_record else f1_L.mean())

    return weighted


def _matthews(truth_N: np.ndarray, answer_N: np.ndarray) -> Weighted:
    """Of any number of classes (Gorodkin 2004, doi:10.1016/j.compbiolchem.2004.09.006)."""
    truth_NL, answer_NL = _indicators(truth_N, answer_N)
    right_N = (truth_NL * answer_NL).sum(1)

    def weighted(weight_N: np.ndarray) -> float:
        truth_L, answer_L, right, all_ = weight_N @ truth_NL, weight_N @ answer_NL, weight_N @ right_N, weight_N.sum()
        spread = (all_**2 - answer_L @ answer_L) * (all_**2 - truth_L @ truth_L)
        return float((right * all_ - truth_L @ answer_L) / math.sqrt(spread)) if spread > 0 else 0.0

    return weighted


def _pearson(truth_N: np.ndarray, answer_N: np.ndarray) -> Weighted:
    return lambda weight_N: _correlation(truth_N, answer_N, weight_N)


def _spearman(truth_N: np.ndarray, answer_N: np.ndarray) -> Weighted:
    """Pearson of the ranks, equal values sharing theirs."""
    places = [np.unique(x, return_inverse=True)[1].ravel() for x in (truth_N, answer_N)]
    return lambda weight_N: _correlation(*(_ranks(place_N, weight_N) for place_N in places), weight_N)


def _ranks(place_N: np.ndarray, weight_N: np.ndarray) -> np.ndarray:
    """rank_N among records that count so often; ``place_N`` numbers the different values in their order."""
    count_U = np.bincount(place_N, weights=weight_N)
    return (count_U.cumsum() - (count_U - 1) / 2)[place_N]


def _correlation(truth_N: np.ndarray, answer_N: np.ndarray, weight_N: np.ndarray) -> float:
    truth_N = truth_N - np.average(truth_N, weights=weight_N)
    answer_N = answer_N - np.average(answer_N, weights=weight_N)
    spread = math.sqrt((weight_N @ truth_N**2) * (weight_N @ answer_N**2))
    return float((weight_N * truth_N) @ answer_N) / spread if spread > 0 else 0.0


def _r2(truth_N: np.ndarray, answer_N: np.ndarray) -> Weighted:
    def weighted(weight_N: np.ndarray) -> float:
        spread = weight_N @ (truth_N - np.average(truth_N, weights=weight_N)) ** 2
        return float(1 - weight_N @ (truth_N - answer_N) ** 2 / spread) if spread > 0 else math.nan

    return weighted


METRICS: dict[str, tuple[Value, Callable[[np.ndarray, np.ndarray], Weighted]]] = {
    "accuracy": (partial(_sklearn, "accuracy_score"), _accuracy),
    "F1": (partial(_sklearn, "f1_score", average="binary", zero_division=0.0), partial(_f1, 1)),
    "macro F1": (partial(_sklearn, "f1_score", average="macro", zero_division=0.0), partial(_f1, None)),
    "Matthews": (partial(_sklearn, "matthews_corrcoef"), _matthews),
    "Spearman": (partial(_torchmetrics, "spearman_corrcoef"), _spearman),
    "Pearson": (partial(_torchmetrics, "pearson_corrcoef"), _pearson),
    "R2": (partial(_sklearn, "r2_score"), _r2),
}
"""F1 is that of class 1 of two (in the order of their names)."""
