"""Nearest neighbours: whether frozen features put like beside like, with nothing learned.

Shape suffixes: N records, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmm.evaluation.dataset import Dataset
from mmm.evaluation.features import Frozen, Pool
from mmm.evaluation.outcome import Outcome
from mmm.evaluation.probing import Task, probe


def measure(
    frozen: Frozen,
    data: Dataset,
    seeds: Sequence[int],
    task: Task = "classes",
    metric: str | None = None,
    pool: Pool = "mean",
    layer: int | None = None,
    train: int | None = None,
    test: int | None = None,
    k: int = 20,
    temperature: float = 0.07,
) -> Outcome:
    """The vote of the k training records of largest cosine, each weighted by exp(cosine / temperature).

    Paper: Wu et al. 2018, arXiv:1805.01978, section 3.4; as an evaluation of frozen features: DINO, arXiv:2104.14294.

    Args:
        frozen, data, seeds, task, metric, pool, layer, train, test: as of the linear probe.
        k: neighbours. temperature: of their weights.
    """

    def fit(train_ND: np.ndarray, truth_N: np.ndarray, keys: Sequence[str], test_ND: np.ndarray, seed: int) -> np.ndarray:
        from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

        kind = KNeighborsRegressor if task == "number" else KNeighborsClassifier
        near = min(k, len(train_ND))
        found = kind(near, weights=lambda distance: np.exp(-distance / temperature), metric="cosine", algorithm="brute")
        return np.asarray(found.fit(train_ND, truth_N).predict(test_ND))

    return probe(frozen, data, seeds, fit, task, metric, pool, layer, train, test)
