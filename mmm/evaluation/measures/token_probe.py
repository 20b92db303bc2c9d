"""Linear probe of every token: secondary structure, and any other label a residue has.

Shape suffixes: N tokens, D width.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mmm.core.errors import BadRecipe
from mmm.evaluation.dataset import UNKNOWN, Dataset, Example
from mmm.evaluation.features import Frozen
from mmm.evaluation.measures.linear_probe import best, classifier
from mmm.evaluation.outcome import Answers, Outcome, mean_and_interval

STRENGTHS = (1e-4, 1e-2, 1.0)
AT_ONCE = 64
"""Test proteins whose features are in memory together."""
Q3 = {"H": "H", "G": "H", "I": "H", "E": "E", "B": "E"}
"""Eight states of DSSP to three, the others to C (Rost and Sander 1993, doi:10.1006/jmbi.1993.1413)."""


def measure(
    frozen: Frozen,
    data: Dataset,
    seeds: Sequence[int],
    states: int | None = None,
    layer: int | None = None,
    train: int | None = None,
    test: int | None = None,
    strengths: Sequence[float] = STRENGTHS,
) -> Outcome:
    """The share of test residues whose state multinomial logistic regression on their features names; proteins are resampled.

    Features are standardised; C is chosen on a held-out share of the training proteins. A protein that is longer than the model
    reads is read in stretches.

    Paper: TAPE, arXiv:1906.08230, section 3 (the task); the frozen probe: ESM-1b, doi:10.1073/pnas.2016239118.

    Args:
        frozen: the model. data: sequences, each with a string of states as long as it is; ``-`` where none is known.
        seeds: of splits and of the choice of training proteins.
        states: 3 makes three of DSSP's eight (Q3); 8 refuses labels of fewer states (Q8); None takes them as they are.
        layer: a block of the encoder; its output by default.
        train, test: proteins that are taken at most. strengths: the Cs that are tried.
    """
    from sklearn.preprocessing import StandardScaler

    labels: dict[str, str] = {}
    for example in data.examples:
        if labels.setdefault(example.key, _states(example, states)) != _states(example, states):
            raise BadRecipe(f"{example.key[:60]!r} stands in the data twice, with other states")
    classes = sorted({s for found in labels.values() for s in found} - {UNKNOWN})
    _check(classes, states)
    splits = {seed: data.split(seed, train, test) for seed in seeds}
    probes: dict[int, tuple[Any, Any]] = {}
    common: dict[int, str] = {}
    for seed, (learned, _) in splits.items():
        x_ND, truth_N, keys = _stacked(frozen, learned, labels, layer)
        scaler = StandardScaler().fit(x_ND)
        x_ND = scaler.transform(x_ND)
        chosen = best(x_ND, truth_N, keys, seed, strengths, "classes", "accuracy")
        probes[seed] = (scaler, classifier(chosen, x_ND, truth_N))
        common[seed] = Counter(truth_N.tolist()).most_common(1)[0][0]
    tested = {e.key: e for _, held in splits.values() for e in held}
    right: dict[int, dict[str, int]] = {seed: {} for seed in seeds}
    for key, x_ND, truth_N in _known(frozen, list(tested.values()), labels, layer):
        for seed, (scaler, model) in probes.items():
            right[seed][key] = int((model.predict(scaler.transform(x_ND)) == truth_N).sum()) if len(truth_N) else 0
    said, guessed = [], []
    for seed, (_, held) in splits.items():
        keys = [e.key for e in held]
        asked_N = np.array([sum(s != UNKNOWN for s in labels[k]) for k in keys])
        said.append(Answers.of_sums(keys, [right[seed][k] for k in keys], asked_N))
        guessed.append(sum(labels[k].count(common[seed]) for k in keys) / asked_N.sum())
    by_seed = {s: a.value for s, a in zip(seeds, said, strict=True)}
    name = f"Q{len(classes)}" if len(classes) in (3, 8) else "token accuracy"
    return Outcome(name, *mean_and_interval(said), by_seed, float(np.mean(guessed)), "majority class")


def _states(example: Example, states: int | None) -> str:
    label, residues = str(example.label), len(example.records[0])
    if len(label) != residues:
        raise BadRecipe(f"{example.key[:60]!r}: {len(label)} states for {residues} residues")
    return label if states != 3 else "".join(s if s == UNKNOWN else Q3.get(s, "C") for s in label)


def _check(classes: Sequence[str], states: int | None) -> None:
    if len(classes) < 2 or (states == 8 and len(classes) <= 3):
        raise BadRecipe(f"the labels have the states {', '.join(classes) or 'none'}; {states or 2} are needed")


def _stacked(
    frozen: Frozen, examples: Sequence[Example], labels: dict[str, str], layer: int | None
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Features, states and protein of every known residue; a protein's key holds its residues together in the inner split."""
    found = list(_known(frozen, examples, labels, layer))
    keys = [key for key, _, truth_N in found for _ in truth_N]
    return np.concatenate([x for _, x, _ in found]), np.concatenate([t for _, _, t in found]), keys


def _known(
    frozen: Frozen, examples: Sequence[Example], labels: dict[str, str], layer: int | None
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """(key, x_ND, truth_N) of the known residues of each protein, once where it stands in the data twice."""
    examples = list({e.key: e for e in examples}.values())
    for start in range(0, len(examples), AT_ONCE):
        some = examples[start : start + AT_ONCE]
        stretches = [(e.key, part) for e in some for part in _stretches(frozen, str(e.records[0]))]
        features: dict[str, list[np.ndarray]] = {}
        for (key, _), x_ND in zip(stretches, frozen.tokens([part for _, part in stretches], layer), strict=True):
            features.setdefault(key, []).append(x_ND)
        for example in some:
            x_ND, truth_N = np.concatenate(features[example.key]), np.array(list(labels[example.key]))
            if len(x_ND) != len(truth_N):
                raise BadRecipe(f"{example.key[:60]!r}: the model makes {len(x_ND)} tokens of {len(truth_N)} residues")
            yield example.key, x_ND[truth_N != UNKNOWN], truth_N[truth_N != UNKNOWN]


def _stretches(frozen: Frozen, sequence: str) -> list[str]:
    """The sequence in as few stretches of like length as the model's longest piece allows."""
    room = getattr(frozen.tokenizer, "max_length", len(sequence) + 2) - 2
    parts = -(-len(sequence) // room)
    size = -(-len(sequence) // parts)
    return [sequence[i : i + size] for i in range(0, len(sequence), size)]
