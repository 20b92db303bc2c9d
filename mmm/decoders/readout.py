"""No decoder: read the encoder where the question is.

Shape suffixes: K kept tokens, N asked tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mmm.core.network import Decoder
from mmm.core.view import View


class Readout(Decoder):
    """The identity: one gather (BERT, SimMIM, HuBERT, ESM-2)."""

    def build(self, width: int, names: Sequence[str]) -> None:
        self.width = width

    def forward(self, x_KD: Tensor, view: View) -> Tensor:
        """Raises ValueError where an asked token was dropped: nothing stands there to be read."""
        if not view.readable:
            raise ValueError(
                "asked tokens were dropped before the encoder: a corruption such as Drop needs decoder: TransformerDecoder"
            )
        return x_KD[view.place_N]
