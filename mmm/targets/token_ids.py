"""The token's own id.

Shape suffixes: N asked tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor

from mmm.core.baseline import Unigram
from mmm.core.modality import Tokenizer
from mmm.core.target import Baseline, Target
from mmm.core.tokens import Tokens


class TokenIds(Target):
    """Cross-entropy over the vocabulary, at the asked tokens alone.

    Paper: BERT, arXiv:1810.04805, section 3.1.
    """

    unit = "nats a token"

    def bind(self, name: str, tokenizer: Tokenizer) -> None:
        """Raises ValueError where the modality's content is not ids."""
        super().bind(name, tokenizer)
        if tokenizer.choices is None:
            raise ValueError(f"TokenIds on {name!r}: its content is not ids; choose a target such as Pixels")
        self.size = tokenizer.size

    def truth(self, tokens: Tokens, answer_N: Tensor) -> Tensor:
        return tokens.content[self.name][tokens.number_T[answer_N]]

    def loss(self, output_NV: Tensor, truth_N: Tensor) -> Tensor:
        return F.cross_entropy(output_NV.float(), truth_N, reduction="none")

    def context_free(self, truths: Iterable[Tensor]) -> Baseline:
        return Unigram(truths, self.size)
