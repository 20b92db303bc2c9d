"""Only the top of the body learns.

Shape suffixes: none.
"""

from __future__ import annotations

from mmm.core.adapter import freeze_body
from mmm.core.model import Model

from ._body import InPlace, layers


class LastLayers(InPlace):
    """The last blocks of the encoder, its last norm and the decoder are trained, everything below them is frozen.

    Paper: Howard & Ruder 2018, "ULMFiT", arXiv:1801.06146 (layers thawed from the top); MAE, arXiv:2111.06377, section 4.3
    ("partial fine-tuning": the last blocks).

    Args:
        blocks: how many of the last blocks are trained, 1 to the encoder's depth.
    """

    def __init__(self, blocks: int = 2):
        super().__init__()
        if blocks < 1:
            raise ValueError(f"LastLayers(blocks={blocks}): needs 1 or more; Frozen trains none")
        self.blocks = blocks

    def adapt(self, model: Model) -> None:
        """Raises ValueError where the encoder has fewer blocks, or none that can be told apart."""
        groups = layers(model)
        depth = len(groups) - 2
        if self.blocks > depth:
            raise ValueError(f"LastLayers(blocks={self.blocks}): the encoder has {depth}; choose 1 to {depth}")
        freeze_body(model)
        for group in groups[-self.blocks - 1 :]:
            for parameter in group:
                parameter.requires_grad_(True)
