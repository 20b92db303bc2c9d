"""A change of the embedding that is undone before the output.

Shape suffixes: K kept tokens, D width.
"""

from __future__ import annotations

from mmm.core.adapter import Adapter, freeze_body
from mmm.core.model import Model

from ._around import Coupled
from .bottleneck import Bottleneck


class Invertible(Adapter):
    """Invertible adapters: an additive coupling of the embeddings x_KD before the encoder, its exact inverse on what the
    encoder returns, so that input and output embeddings are adapted by the same few weights.

    The two nets of the coupling, D/2 -> hidden -> D/2, begin at 0: the first step starts from the pretrained model exactly.
    The body is frozen. MAD-X trains a bottleneck after every block beside it.

    Paper: Pfeiffer et al. 2020, "MAD-X", arXiv:2005.00052, section 3.2; the coupling: NICE, arXiv:1410.8516.

    Args:
        hidden: width of the nets of the coupling; by default a quarter of the model's, as in the paper.
        bottleneck: width of a ``Bottleneck`` of placement "pfeiffer" in the blocks; none by default.
    """

    def __init__(self, hidden: int | None = None, bottleneck: int | None = None):
        super().__init__()
        if hidden is not None and hidden < 1:
            raise ValueError(f"Invertible(hidden={hidden}): needs a width of 1 or more")
        self.hidden = hidden
        self.inside = None if bottleneck is None else Bottleneck(bottleneck, "pfeiffer")

    def adapt(self, model: Model) -> None:
        freeze_body(model)
        if self.inside is not None:
            self.inside.adapt(model)
        width = model.encoder.width
        model.encoder = Coupled(model.encoder, self.hidden or max(1, width // 4))
