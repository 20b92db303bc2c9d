"""What a measure found: a value over seeds, its interval by resampling test records, and what a blind guess reaches.

Shape suffixes: R test records of all seeds, N test records of one seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from mmm.core.draw import Draw

RESAMPLINGS, CONFIDENCE = 2000, 0.99


@dataclass(frozen=True)
class Answers:
    """What one seed said of its test records.

    Args:
        keys: of the records. value: the metric. weighted: the same as a function of how often each record counts (weight_N).
    """

    keys: Sequence[str]
    value: float
    weighted: Callable[[np.ndarray], float]

    @classmethod
    def of_sums(cls, keys: Sequence[str], right_N: Sequence[float], asked_N: Sequence[float]) -> Answers:
        """A share: the sum of what is right over the sum of what was asked (accuracy, of records or of their tokens)."""
        right, asked = np.asarray(right_N, dtype=np.float64), np.asarray(asked_N, dtype=np.float64)
        share = right.sum() / asked.sum() if asked.any() else math.nan
        return cls(keys, float(share), lambda weight_N: float(np.divide(weight_N @ right, weight_N @ asked)))


@dataclass(frozen=True)
class Outcome:
    """The figure of a task.

    Args:
        metric: its name. value: the mean over the seeds. low, high: its 99 % interval.
        n: test records. by_seed: the value of each seed; empty where nothing is random.
        baseline: the metric of ``guess``, which looks at no record.
        notes: what to know of it. parts: values of parts of the data, by name.
    """

    metric: str
    value: float
    low: float
    high: float
    n: int
    by_seed: dict[int, float]
    baseline: float
    guess: str
    notes: list[str] = field(default_factory=list)
    parts: dict[str, float] = field(default_factory=dict)


def mean_and_interval(answers: Sequence[Answers]) -> tuple[float, float, float, int]:
    """(value, low, high, R): the mean over seeds and its 99 % percentile interval from 2000 resamplings of the test records.

    A record that several seeds tested is drawn for all of them together: seeds do not make a test set larger.

    Paper: Efron 1979, "Bootstrap methods: another look at the jackknife", doi:10.1214/aos/1176344552.
    """
    number = {key: i for i, key in enumerate(sorted({key for a in answers for key in a.keys}))}
    places = [np.array([number[key] for key in a.keys]) for a in answers]
    records = len(number)
    random = np.random.default_rng(Draw(0).stream("evaluation").stream("bootstrap").seed())

    def again(times_R: np.ndarray) -> float:
        times = [times_R[place_N] for place_N in places]
        if not all(times_N.any() for times_N in times):  # few records: one seed is left with none
            return math.nan
        return float(np.mean([a.weighted(times_N) for a, times_N in zip(answers, times, strict=True)]))

    share_R = np.full(records, 1 / records)
    with np.errstate(invalid="ignore", divide="ignore"):  # a record may ask nothing
        values = np.array([again(random.multinomial(records, share_R)) for _ in range(RESAMPLINGS)])
    values = values[np.isfinite(values)]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail]) if len(values) else (math.nan, math.nan)
    return float(np.mean([a.value for a in answers])), float(low), float(high), records
