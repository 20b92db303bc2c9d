"""Linear probe: what can be read off frozen features by a linear map.

Shape suffixes: N records, D width, L labels.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mmm.core.draw import Draw, hash64
from mmm.core.errors import BadRecipe
from mmm.evaluation.dataset import Dataset
from mmm.evaluation.features import Frozen, Pool
from mmm.evaluation.metrics import answers
from mmm.evaluation.outcome import Outcome
from mmm.evaluation.probing import DEFAULT_METRIC, Task, probe

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
INNER_SHARE = 0.2
"""Of the training records, held out to choose C."""


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
    strengths: Sequence[float] = STRENGTHS,
) -> Outcome:
    """Logistic regression (ridge regression of numbers) on standardised features.

    The inverse strength C of the L2 penalty is the best one on a held-out share of the training records, chosen by their keys;
    then all of them are learned from.

    Paper: Alain and Bengio 2016, "Understanding intermediate layers using linear classifier probes", arXiv:1610.01644.

    Args:
        frozen: the model. data: labelled records, single ones or pairs.
        seeds: of splits and subsamples, and of the share held out for C.
        task: ``classes``; ``labels`` (several a record, parted by ``|``); ``number``.
        metric: accuracy, macro F1 and Spearman by default.
        pool: tokens to a vector. layer: a block of the encoder; its output by default.
        train, test: records that are taken at most. strengths: the Cs that are tried.
    """

    def fit(train_ND: np.ndarray, truth_N: np.ndarray, keys: Sequence[str], test_ND: np.ndarray, seed: int) -> np.ndarray:
        from sklearn.preprocessing import StandardScaler

        scaler = StandardScaler().fit(train_ND.astype(np.float64))
        train_ND, test_ND = (scaler.transform(x.astype(np.float64)) for x in (train_ND, test_ND))
        chosen = best(train_ND, truth_N, keys, seed, strengths, task, metric or DEFAULT_METRIC[task])
        return predictions(chosen, task, train_ND, truth_N, test_ND)

    return probe(frozen, data, seeds, fit, task, metric, pool, layer, train, test)


def best(
    x_ND: np.ndarray,
    truth_N: np.ndarray,
    keys: Sequence[str],
    seed: int,
    strengths: Sequence[float],
    task: Task,
    metric: str,
) -> float:
    """The C whose predictions of the inner test share are best; the smallest of equals."""
    if len(strengths) == 1:
        return strengths[0]
    names = torch.tensor([hash64(key.encode()) for key in keys], dtype=torch.int64)
    held_N = (Draw(seed).stream("evaluation").stream("inner").uniform(names) < INNER_SHARE).numpy()
    if not held_N.any() or len(np.unique(truth_N[~held_N], axis=0)) < 2:
        raise BadRecipe(f"{len(truth_N)} training records are too few to choose C on a held-out share; give more")
    inner = [key for key, held in zip(keys, held_N, strict=True) if held]
    values = []
    for c in sorted(strengths):
        said_N = predictions(c, task, x_ND[~held_N], truth_N[~held_N], x_ND[held_N])
        values.append((answers(metric, inner, truth_N[held_N], said_N).value, -c))
    return -max(values)[1]


def predictions(c: float, task: Task, x_ND: np.ndarray, truth_N: np.ndarray, test_ND: np.ndarray) -> np.ndarray:
    """What a model with this C says of the test records."""
    if task == "number":
        from sklearn.linear_model import Ridge

        return np.asarray(Ridge(alpha=1 / c).fit(x_ND, truth_N).predict(test_ND))
    if task == "classes":
        return np.asarray(classifier(c, x_ND, truth_N).predict(test_ND))
    columns = [
        classifier(c, x_ND, t).predict(test_ND) if len(np.unique(t)) > 1 else np.full(len(test_ND), t[0]) for t in truth_N.T
    ]
    return np.stack(columns, axis=1)


def classifier(c: float, x_ND: np.ndarray, truth_N: np.ndarray) -> Any:
    """Multinomial logistic regression, learned."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # after so many steps the predictions no longer change
        return LogisticRegression(C=c, max_iter=300, tol=1e-3).fit(x_ND, truth_N)
