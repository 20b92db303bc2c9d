"""A number for a whole record.

Shape suffixes: none.
"""

from __future__ import annotations

from mmm.nn.pool import Pooling
from mmm.objectives._labels import Values
from mmm.objectives._task import RecordTask


class Regress(RecordTask):
    """Predict a number: as ``Classify``, with the squared error.

    The loss is measured in deviations of the training labels from their mean; predictions are told in the labels' own unit.

    Paper: BERT, arXiv:1810.04805, appendix B.1 (STS-B); TAPE's stability and fluorescence, arXiv:1906.08230.

    Args:
        modality, pool, pairs, neighbours, skip_unlabelled: see ``Classify``.
    """

    metric = "Spearman"

    def __init__(
        self,
        modality: str | None = None,
        pool: Pooling = "mean",
        pairs: bool = False,
        neighbours: int | None = None,
        skip_unlabelled: bool = False,
    ):
        super().__init__(Values(skip_unlabelled), modality, pool, pairs, neighbours)
