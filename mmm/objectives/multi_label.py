"""Any number of classes for a whole record.

Shape suffixes: none.
"""

from __future__ import annotations

from mmm.nn.pool import Pooling
from mmm.objectives._labels import ClassSet
from mmm.objectives._task import RecordTask


class MultiLabel(RecordTask):
    """Classify records that may belong to several classes: as ``Classify``, with a binary cross-entropy a class.

    A label names its classes with ``|`` between them. An answer names those that are likelier than not.

    Paper: CNN-RNN, arXiv:1604.04573 (the task); binary relevance, Zhang & Zhou 2014, doi:10.1109/TKDE.2013.39, section 3.1.

    Args:
        modality, pool, pairs, neighbours, skip_unlabelled: see ``Classify``.
    """

    metric = "macro F1"

    def __init__(
        self,
        modality: str | None = None,
        pool: Pooling = "mean",
        pairs: bool = False,
        neighbours: int | None = None,
        skip_unlabelled: bool = False,
    ):
        super().__init__(ClassSet(skip_unlabelled), modality, pool, pairs, neighbours)
