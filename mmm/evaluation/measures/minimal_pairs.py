"""Minimal pairs: whether a model finds the good sentence likelier than the bad one, zero-shot.

Shape suffixes: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from mmm.core.draw import Draw
from mmm.core.errors import BadRecipe, did_you_mean
from mmm.evaluation.dataset import Dataset, some
from mmm.evaluation.features import Frozen
from mmm.evaluation.likelihood import MaskedHead
from mmm.evaluation.outcome import Answers, Outcome, mean_and_interval

Score = Literal["pll", "unmasked"]


def measure(frozen: Frozen, data: Dataset, seeds: Sequence[int], score: Score = "pll", pairs: int | None = None) -> Outcome:
    """The share of pairs whose first record has the higher score; equal scores are wrong.

    Paper: BLiMP, arXiv:1912.00582; pseudo-log-likelihood: arXiv:1910.14659.

    Args:
        frozen: a model with a masked head. data: pairs, the good record first; the label names the paradigm.
        seeds: without meaning, nothing here is random.
        score: ``pll``: each token is hidden in turn; ``unmasked``: one pass that hides nothing.
        pairs: of each paradigm at most, chosen by their keys.
    """
    head = MaskedHead(frozen)
    scores = {"pll": head.pseudo_log_likelihoods, "unmasked": head.unmasked_log_likelihoods}
    if score not in scores:
        raise BadRecipe(f"minimal_pairs: no score {score!r}. {did_you_mean(score, scores)}")
    right: dict[str, list[float]] = {}
    keys: list[str] = []
    for paradigm in sorted({str(e.label) for e in data.examples}):
        examples = [e for e in data.examples if str(e.label) == paradigm]
        examples = some(examples, pairs, Draw(0).stream("evaluation").stream("pairs"))
        values = scores[score]([record for e in examples for record in e.records])
        right[paradigm] = [float(good > bad) for good, bad in zip(values[::2], values[1::2], strict=True)]
        keys += [f"{paradigm}/{i}" for i in range(len(examples))]
    answers = Answers.of_sums(keys, [r for found in right.values() for r in found], np.ones(len(keys)))
    parts = {paradigm: float(np.mean(found)) for paradigm, found in right.items()}
    return Outcome("accuracy", *mean_and_interval([answers]), {}, 0.5, "chance", parts=parts)
