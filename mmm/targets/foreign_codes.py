"""Codes that another model made, which is not here.

Shape suffixes: N asked tokens, V number of codes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

import torch.nn.functional as F
from torch import Tensor

from mmm.core.target import Baseline, Target
from mmm.core.tokens import Tokens


class ForeignCodes(Target):
    """What the head of an imported model answers: codes of a tokenizer that did not come along, so that there is no truth.

    Paper: BEiT, arXiv:2106.08254, section 2.2 (the visual tokens of another model).

    Args:
        size: V, how many codes there are.
    """

    unit = "nats a token"
    learnable = False

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def truth(self, tokens: Tokens, answer_N: Tensor) -> Tensor:
        self._refuse()

    def loss(self, output_NV: Tensor, truth_N: Tensor) -> Tensor:
        return F.cross_entropy(output_NV.float(), truth_N, reduction="none")

    def context_free(self, truths: Iterable[Tensor]) -> Baseline:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ValueError(
            f"ForeignCodes on {self.name!r}: the model that made these {self.size} codes is not here, so there is no truth to "
            "learn from; name another target"
        )
