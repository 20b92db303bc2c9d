"""One class for a whole record.

Shape suffixes: none.
"""

from __future__ import annotations

from mmm.nn.pool import Pooling
from mmm.objectives._labels import Classes
from mmm.objectives._task import RecordTask


class Classify(RecordTask):
    """Classify records, or pairs of them: pool the tokens, one linear head, cross-entropy.

    The classes are those of the training labels. Two texts are one piece, [CLS] a [SEP] b [SEP]; pairs of anything else are
    encoded each by itself and compared.

    Paper: BERT, arXiv:1810.04805, section 4.1; ``pool: attention`` over a frozen encoder: the attentive probe of CAE,
    arXiv:2202.03026; pairs: InferSent, arXiv:1705.02364.

    Args:
        modality: whose records are labelled; a model of one modality needs no word.
        pool: how a record's tokens become one vector: their mean, the first, or an attention with a learned query.
        pairs: rows have a second record, in the column ``record2``; must be said where it is not one piece with the first.
        neighbours: the nearest so many training records vote, by the cosine of their pooled tokens, in place of the head; what
            the head says is told beside. It is meant for a frozen model (arXiv:1805.01978, section 3.4).
        skip_unlabelled: pass over records without a label, as where a mixture has both kinds; else they are refused.
    """

    metric = "accuracy"

    def __init__(
        self,
        modality: str | None = None,
        pool: Pooling = "mean",
        pairs: bool = False,
        neighbours: int | None = None,
        skip_unlabelled: bool = False,
    ):
        super().__init__(Classes(skip_unlabelled), modality, pool, pairs, neighbours)
