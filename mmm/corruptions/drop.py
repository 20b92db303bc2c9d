"""The chosen tokens never reach the encoder.

Shape suffixes: T packed tokens, K kept tokens.
"""

from __future__ import annotations

from torch import Tensor

from mmm.core.corruption import Corruption
from mmm.core.draw import Draw
from mmm.core.tokens import Tokens
from mmm.core.view import View


class Drop(Corruption):
    """Only the visible tokens are encoded; a decoder answers for the others.

    Paper: MAE, arXiv:2111.06377, section 3.
    """

    def __call__(self, tokens: Tokens, hidden_T: Tensor, progress: float, draw: Draw) -> View:
        return View.of(tokens, hidden_T, kept_K=(~hidden_T).nonzero()[:, 0])
