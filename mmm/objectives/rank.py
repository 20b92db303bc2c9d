"""The better of two records.

Shape suffixes: N pairs, D width, V output size.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mmm.core.model import Model
from mmm.nn.pool import Pooling
from mmm.objectives._labels import Better
from mmm.objectives._task import RecordTask


class Rank(RecordTask):
    """Give every record a score, so that the better one of a pair has the higher: the logistic loss of their difference.

    A row is a pair, ``record`` and ``record2``; its label names the better one: ``record`` (or 1), ``record2`` (or 2, or 0).

    Paper: RankNet, Burges et al. 2005, doi:10.1145/1102351.1102363; the hinge: Herbrich et al. 2000.

    Args:
        modality, pool: see ``Classify``.
        margin: the hinge of this margin in place of the logistic loss.
        skip_unlabelled: see ``Classify``.
    """

    metric = "pairwise accuracy"
    apart = True

    def __init__(
        self,
        modality: str | None = None,
        pool: Pooling = "mean",
        margin: float | None = None,
        skip_unlabelled: bool = False,
    ):
        super().__init__(Better(skip_unlabelled, margin), modality, pool, pairs=True)

    def build(self, model: Model) -> None:
        super().build(model)
        self.both = None  # each record has a score of its own

    def head(self, model: Model, parts: Sequence[Tensor]) -> Tensor:
        """lead_N1: the first record's score less the second's."""
        first_N1, second_N1 = (model.heads[self.address](part_ND) for part_ND in parts)
        return first_N1 - second_N1
