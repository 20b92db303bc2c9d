"""The frame of every probe of whole records: features, splits by seed, predictions, the blind guess.

Shape suffixes: N records, D width, L labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np

from mmm.core.errors import BadRecipe

from .dataset import Dataset, Example
from .features import Frozen, Pool
from .metrics import answers
from .outcome import Outcome, mean_and_interval

Task = Literal["classes", "labels", "number"]
"""One class a record; any number of classes, parted by ``|``; a number."""

DEFAULT_METRIC = {"classes": "accuracy", "labels": "macro F1", "number": "Spearman"}


class Fit(Protocol):
    """Learns from training features and says something of test features."""

    def __call__(
        self, train_ND: np.ndarray, truth_N: np.ndarray, keys: Sequence[str], test_ND: np.ndarray, seed: int
    ) -> np.ndarray:
        """answer_N of the test records: class numbers, indicators (N, L), or numbers. ``keys`` are of the training records."""


def probe(
    frozen: Frozen,
    data: Dataset,
    seeds: Sequence[int],
    fit: Fit,
    task: Task,
    metric: str | None,
    pool: Pool,
    layer: int | None,
    train: int | None,
    test: int | None,
) -> Outcome:
    """The metric of ``fit`` over seeds; see the measures for the arguments.

    Raises:
        ValueError: a label is no number where numbers are wanted, or all training labels are equal.
    """
    metric = metric or DEFAULT_METRIC[task]
    truth_of = _Labels(data.examples, task)
    said, guessed = [], []
    for seed in seeds:
        train_set, test_set = data.split(seed, train, test)
        truth_N = truth_of(train_set)
        if len(np.unique(truth_N, axis=0)) < 2:
            raise BadRecipe(
                f"all {len(train_set)} training records have the label {train_set[0].label!r}: nothing to be learned"
            )
        train_ND, test_ND = (_features(frozen, side, pool, layer) for side in (train_set, test_set))
        keys, true_N = [e.key for e in test_set], truth_of(test_set)
        answer_N = fit(train_ND, truth_N, [e.key for e in train_set], test_ND, seed)
        said.append(answers(metric, _once(keys), true_N, answer_N))
        blind_N = np.broadcast_to(_guess(truth_N, task), true_N.shape)
        guessed.append(answers(metric, keys, true_N, blind_N).value)
    by_seed = {s: a.value for s, a in zip(seeds, said, strict=True)}
    guess = "mean" if task == "number" else "majority class"
    notes = [f"{frozen.cut} records are longer than the model reads: their beginnings were read"] if frozen.cut else []
    return Outcome(metric, *mean_and_interval(said), by_seed, float(np.mean(guessed)), guess, notes)


class _Labels:
    """Labels as numbers: classes in the order of their names over all records, whatever the split."""

    def __init__(self, examples: Sequence[Example], task: Task):
        self.task = task
        names = {name for e in examples for name in self._names(e)} if task != "number" else set()
        self.number = {name: i for i, name in enumerate(sorted(names))}

    def _names(self, example: Example) -> list[str]:
        label = str(example.label)
        return [part.strip() for part in label.split("|")] if self.task == "labels" else [label]

    def __call__(self, examples: Sequence[Example]) -> np.ndarray:
        if self.task == "number":
            return np.array([number(e) for e in examples])
        if self.task == "classes":
            return np.array([self.number[str(e.label)] for e in examples])
        truth_NL = np.zeros((len(examples), len(self.number)), dtype=np.int64)
        for row_L, example in zip(truth_NL, examples, strict=True):
            row_L[[self.number[name] for name in self._names(example)]] = 1
        return truth_NL


def number(example: Example) -> float:
    """A label as a number. Raises ValueError where it is none."""
    try:
        value = float(example.label)
    except (TypeError, ValueError):
        value = np.nan
    if not np.isfinite(value):
        raise BadRecipe(f"the label {example.label!r} of {example.key[:60]!r} is no number")
    return value


def _guess(truth_N: np.ndarray, task: Task) -> np.ndarray:
    """The commonest class (of several labels, the commonest alone), or the mean."""
    if task == "number":
        return truth_N.mean()  # type: ignore[no-any-return]
    if task == "classes":
        return np.array(Counter(truth_N.tolist()).most_common(1)[0][0])
    return np.eye(truth_N.shape[1], dtype=np.int64)[truth_N.sum(0).argmax()]


def _features(frozen: Frozen, examples: Sequence[Example], pool: Pool, layer: int | None) -> np.ndarray:
    """(N, D); of a pair [u, v, |u - v|, u v] (InferSent, arXiv:1705.02364)."""
    keys = [[f"{e.key}\0{part}" for e in examples] for part in range(len(examples[0].records))]
    sides = [frozen.vectors([e.records[p] for e in examples], keys[p], pool, layer) for p in range(len(keys))]
    if len(sides) == 1:
        return sides[0]
    first, second = sides
    return np.concatenate([first, second, np.abs(first - second), first * second], axis=1)


def _once(keys: Sequence[str]) -> list[str]:
    """Keys that differ: of equal records, each is a test record of its own."""
    seen: Counter[str] = Counter()
    found = []
    for key in keys:
        found.append(f"{key}\0{seen[key]}" if seen[key] else key)
        seen[key] += 1
    return found
