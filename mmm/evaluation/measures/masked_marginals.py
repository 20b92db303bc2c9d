"""Fitness of variants, zero-shot: how much likelier the mutated residues are than the wild type's.

Shape suffixes: V ids.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mmm.core.errors import BadRecipe
from mmm.evaluation.dataset import Dataset
from mmm.evaluation.features import Frozen
from mmm.evaluation.likelihood import MaskedHead, Question
from mmm.evaluation.metrics import answers
from mmm.evaluation.outcome import Outcome, mean_and_interval
from mmm.evaluation.probing import number


def measure(frozen: Frozen, data: Dataset, seeds: Sequence[int], wild_type: str) -> Outcome:
    """Spearman of measured fitness and masked-marginal scores of the test variants.

    A variant's score is the sum over its mutated positions of log p(mutant) - log p(wild type), where that position of the
    wild type is hidden. Of a wild type that is longer than the model reads, the window around each position is read.

    Paper: Meier et al. 2021, "Language models enable zero-shot prediction of the effects of mutations on protein function",
    doi:10.1101/2021.07.09.450648.

    Args:
        frozen: a model with a masked head. data: substitution variants, single records with a number; the data's test set,
            all records where they have none.
        seeds: without meaning, nothing here is random.
        wild_type: the sequence that was mutated.
    """
    head = MaskedHead(frozen)
    examples = [e for e in data.examples if e.test] if data.has_test else list(data.examples)
    changes = [mutations(wild_type, str(e.records[0])) for e in examples]
    marginals = _marginals(head, wild_type, sorted({(place, new) for change in changes for place, new in change}))
    score_N = np.array([sum(marginals[change] for change in found) for found in changes])
    truth_N = np.array([number(e) for e in examples])
    said = answers("Spearman", [f"{i}" for i in range(len(examples))], truth_N, score_N)
    return Outcome("Spearman", *mean_and_interval([said]), {}, 0.0, "constant")


def mutations(wild_type: str, variant: str) -> list[tuple[int, str]]:
    """(place from 0, new residue) of every substitution. Raises ValueError where the lengths differ."""
    if len(variant) != len(wild_type):
        raise BadRecipe(
            f"a variant of {len(variant)} residues of a wild type of {len(wild_type)}: substitutions alone can be scored so"
        )
    return [(i, new) for i, (old, new) in enumerate(zip(wild_type, variant, strict=True)) if old != new]


def _marginals(head: MaskedHead, wild_type: str, changes: Sequence[tuple[int, str]]) -> dict[tuple[int, str], float]:
    """log p(new) - log p(old) at each place."""
    places = sorted({place for place, _ in changes})
    questions: list[Question] = []
    for place in places:
        start, window = _window(head.frozen, wild_type, place)
        piece = head.piece(window)
        assert piece.maskable is not None
        questions.append((piece, int(piece.maskable.nonzero()[place - start, 0])))
    logp_V = {places[n]: row for numbers, logp_QV in head.ask(questions) for n, row in zip(numbers, logp_QV, strict=True)}
    number_of = {residue: _id(head.frozen, residue) for residue in {*wild_type, *(new for _, new in changes)}}
    return {(p, new): float(logp_V[p][number_of[new]] - logp_V[p][number_of[wild_type[p]]]) for p, new in changes}


def _window(frozen: Frozen, sequence: str, place: int) -> tuple[int, str]:
    """(start, stretch) with the place as near to its middle as can be."""
    room = getattr(frozen.tokenizer, "max_length", len(sequence) + 2) - 2
    start = min(max(0, place - room // 2), max(0, len(sequence) - room))
    return start, sequence[start : start + room]


def _id(frozen: Frozen, residue: str) -> int:
    piece = frozen.tokenizer.tokenize(residue)
    assert piece.maskable is not None
    return int(piece.content[piece.maskable][0])
