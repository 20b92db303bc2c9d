"""Whether a token is the original one.

Shape suffixes: N asked tokens, V output size (1).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

import torch.nn.functional as F
from torch import Tensor

from mmm.core.modality import Tokenizer
from mmm.core.target import Baseline, Target
from mmm.core.tokens import Tokens


class Replaced(Target):
    """One number a token: the log-odds that something else stood there. What an imported discriminator answers.

    Its truth depends on the generator that replaced the tokens, which a discriminator alone does not have: it can be asked,
    and fine-tuned with another objective.

    Paper: ELECTRA, arXiv:2003.10555, section 2.
    """

    unit = "nats a token"
    learnable = False

    def bind(self, name: str, tokenizer: Tokenizer) -> None:
        super().bind(name, tokenizer)
        self.size = 1

    def truth(self, tokens: Tokens, answer_N: Tensor) -> Tensor:
        self._refuse()

    def loss(self, output_NV: Tensor, truth_N: Tensor) -> Tensor:
        """Binary cross-entropy; ``truth_N`` is 1 where the token was replaced."""
        return F.binary_cross_entropy_with_logits(output_NV[:, 0].float(), truth_N.float(), reduction="none")

    def context_free(self, truths: Iterable[Tensor]) -> Baseline:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ValueError(f"Replaced on {self.name!r}: which tokens were replaced is known to the generator, and there is none")
