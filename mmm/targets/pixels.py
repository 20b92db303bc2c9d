"""The token's own content, as numbers.

Shape suffixes: N asked tokens, V numbers a token.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor

from mmm.core.baseline import MeanVector
from mmm.core.modality import Tokenizer
from mmm.core.target import Baseline, Target
from mmm.core.tokens import Tokens


class Pixels(Target):
    """Mean squared error over the numbers of a patch (or of a spectrogram frame).

    Paper: MAE, arXiv:2111.06377, section 3 ("reconstruction target").

    Args:
        normalise: to zero mean and unit variance within each token. Such an answer says nothing of the token's own mean and
            variance.
    """

    unit = "squared error a number"

    def __init__(self, normalise: bool = False):
        super().__init__()
        self.normalise = normalise
        if normalise:
            self.unit += ", each token normalised"

    def bind(self, name: str, tokenizer: Tokenizer) -> None:
        """Raises ValueError where the modality's content is not one vector of numbers a token."""
        super().bind(name, tokenizer)
        empty = tokenizer.empty()
        if not tokenizer.rowwise or empty.ndim != 2 or not empty.is_floating_point():
            raise ValueError(f"Pixels on {name!r}: its content is not one vector of numbers a token; choose another target")
        self.size = empty.shape[1]
        if self.normalise and self.size < 2:
            raise ValueError(f"Pixels(normalise=True) on {name!r}: one number a token has no variance; choose normalise: false")

    def truth(self, tokens: Tokens, answer_N: Tensor) -> Tensor:
        truth_NV = tokens.content[self.name][tokens.number_T[answer_N]]
        if self.normalise and len(truth_NV):
            # MAE divides by the root of the unbiased variance + 1e-6; LayerNorm, in one pass, by that of the biased one.
            unbiased = (self.size - 1) / self.size
            truth_NV = F.layer_norm(truth_NV, (self.size,), eps=1e-6 * unbiased) * unbiased**0.5
        return truth_NV

    def loss(self, output_NV: Tensor, truth_N: Tensor) -> Tensor:
        return F.mse_loss(output_NV.float(), truth_N.float(), reduction="none").mean(-1)

    def context_free(self, truths: Iterable[Tensor]) -> Baseline:
        return MeanVector(truths)
