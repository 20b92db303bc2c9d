"""Contacts of residues, read off attention maps.

Shape suffixes: N residues, H attention maps (of all layers), P pairs of residues.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mmm.core.errors import BadRecipe
from mmm.evaluation.attention_maps import attention_maps
from mmm.evaluation.dataset import Dataset, Example
from mmm.evaluation.features import Frozen
from mmm.evaluation.outcome import Answers, Outcome, mean_and_interval

LEARNED_APART = 6
"""Places from one residue to the other of a pair that is learned from, at least."""


def measure(
    frozen: Frozen,
    data: Dataset,
    seeds: Sequence[int],
    top: float = 1.0,
    apart: int = 24,
    train: int = 20,
    test: int | None = None,
    strength: float = 0.15,
) -> Outcome:
    """P@L: the share of true contacts among the L likeliest pairs of a protein of L residues, the mean over proteins.

    Attention maps are made symmetric and corrected for their marginals (APC); an L1 logistic regression on them is learned from
    a few proteins. Proteins that are longer than the model reads are left out, and said.

    Paper: Rao et al. 2020, "Transformer protein language models are unsupervised structure learners",
    doi:10.1101/2020.12.15.422761; APC: Dunn et al. 2008, doi:10.1093/bioinformatics/btm604.

    Args:
        frozen: the model. data: sequences, each with its contacts, pairs of residues from 0.
        seeds: of splits and of the choice of training proteins.
        top: pairs that are looked at, as a share of L: 1 for P@L, 0.2 for P@L/5.
        apart: places from one residue to the other of a pair that is tested, at least: 24 is "long range".
        train, test: proteins that are taken at most. strength: C of the logistic regression.

    Raises:
        ValueError: the encoder has no attention maps, or no protein has a pair that far apart.
    """
    read = [e for e in data.examples if not frozen.tokenizer.tokenize(e.records[0]).cut]
    notes = [f"{len(data.examples) - len(read)} proteins are longer than the model reads: left out"]
    fitting = Dataset([e for e in read if len(e.records[0]) > apart])
    said, guessed = [], []
    for seed in seeds:
        learned, held = fitting.split(seed, train, test)
        model = _learn(frozen, learned, strength)
        precisions, densities = [], []
        for example in held:
            feature_PH, true_P = _pairs(frozen, example, apart)
            first = max(1, round(top * len(example.records[0])))
            best_P = np.argsort(-model.decision_function(feature_PH), kind="stable")[:first]
            precisions.append(float(true_P[best_P].mean()))
            densities.append(float(true_P.mean()))
        said.append(Answers.of_sums([e.key for e in held], precisions, np.ones(len(held))))
        guessed.append(np.mean(densities))
    by_seed = {s: a.value for s, a in zip(seeds, said, strict=True)}
    name = "P@L" if top == 1 else f"P@L/{1 / top:g}"
    notes = notes if len(read) < len(data.examples) else []
    return Outcome(name, *mean_and_interval(said), by_seed, float(np.mean(guessed)), "random pairs", notes)


def _learn(frozen: Frozen, examples: Sequence[Example], strength: float) -> object:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    found = [_pairs(frozen, e, LEARNED_APART) for e in examples]
    x_PH, true_P = np.concatenate([x for x, _ in found]), np.concatenate([t for _, t in found])
    if true_P.all() or not true_P.any():
        raise BadRecipe(
            f"the {len(examples)} training proteins have {'only' if true_P.any() else 'no'} contacts: none to learn"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=strength, l1_ratio=1.0, solver="liblinear", random_state=0)
        return model.fit(x_PH, true_P)


def _pairs(frozen: Frozen, example: Example, apart: int) -> tuple[np.ndarray, np.ndarray]:
    """(feature_PH, true_P) of the pairs that are at least so far apart."""
    maps_HNN = corrected(attention_maps(frozen, example.records[0]))
    length = maps_HNN.shape[1]
    contact_NN = np.zeros((length, length), dtype=bool)
    pair_P2 = np.asarray(example.label, dtype=np.int64).reshape(-1, 2)
    if pair_P2.size and (pair_P2.min() < 0 or pair_P2.max() >= length):
        raise BadRecipe(f"{example.key[:60]!r}: a contact of residue {pair_P2.max()} of {length} (the first is 0)")
    contact_NN[pair_P2[:, 0], pair_P2[:, 1]] = contact_NN[pair_P2[:, 1], pair_P2[:, 0]] = True
    i_P, j_P = np.triu_indices(length, k=apart)
    return maps_HNN[:, i_P, j_P].T.numpy(), contact_NN[i_P, j_P]


def corrected(map_HNN: Tensor) -> Tensor:
    """Symmetric maps less the average product of their marginals: a_ij - a_i a_j / a."""
    map_HNN = map_HNN + map_HNN.transpose(1, 2)
    row, column = map_HNN.sum(2, keepdim=True), map_HNN.sum(1, keepdim=True)
    return map_HNN - row * column / torch.clamp(map_HNN.sum((1, 2), keepdim=True), min=1e-12)
