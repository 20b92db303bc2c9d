"""Every unit alike.

Shape suffixes: T packed tokens.
"""

from __future__ import annotations

from torch import Tensor

from mmm.core.draw import Draw
from mmm.core.masking import Masking
from mmm.core.tokens import Tokens


class Uniform(Masking):
    """Units in random order (BERT, MAE, ESM-2). Whole words where the tokenizer's unit is the word.

    Paper: BERT, arXiv:1810.04805; MAE, arXiv:2111.06377.
    """

    def rank(self, tokens: Tokens, progress: float, draw: Draw) -> Tensor:
        return draw.per_token(tokens.layout)
