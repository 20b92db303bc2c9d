"""How large a value is.

Shape suffixes: N asked tokens, V codes of numbers.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from mmm.core.modality import Tokenizer
from mmm.core.target import Baseline, Target
from mmm.core.tokens import Tokens

from ._tokenizer import LabTokenizer


class LabValue(Target):
    """Squared error of a number, in deviations of its code's training values.

    The head says a number for every code, and is judged by that of the token's own: the value *given* the code, also where the
    code is hidden with it. Beside ``LabCode`` that is p(code) p(value | code). Words have no number and cost nothing.

    Paper: Ghazvininejad et al. 2019, "Mask-predict", arXiv:1904.09324 (all hidden places at once, each given the rest);
    imputation as pre-training: Yoon et al. 2020, "VIME", NeurIPS 33.
    """

    unit = "squared deviations a token"

    def bind(self, name: str, tokenizer: Tokenizer) -> None:
        """Raises ValueError where the modality is no table of values, or has no number."""
        super().bind(name, tokenizer)
        if not isinstance(tokenizer, LabTokenizer):
            raise ValueError(f"LabValue on {name!r}: needs the modality Labs")
        self.size = len(tokenizer.fitted.numbers)
        if self.size == 0:
            raise ValueError(f"LabValue on {name!r}: no code of the training records has numbers; leave LabValue out")

    @property
    def numbers(self) -> tuple[str, ...]:
        """The code of each output."""
        assert isinstance(self.tokenizer, LabTokenizer)
        return tuple(self.tokenizer.fitted.numbers)

    def truth(self, tokens: Tokens, answer_N: Tensor) -> Tensor:
        """(N, 2): the code, or -1 for a word, and the deviations."""
        truth_N2 = tokens.content[self.name][tokens.number_T[answer_N]]
        word_N = truth_N2[:, 0] >= self.size
        return torch.where(word_N[:, None], truth_N2.new_tensor([-1.0, 0.0]), truth_N2)

    def loss(self, output_NV: Tensor, truth_N: Tensor) -> Tensor:
        code_N = truth_N[:, 0].long()
        said_N = output_NV.float().gather(1, code_N.clamp(min=0)[:, None])[:, 0]
        return (said_N - truth_N[:, 1].float()).square() * (code_N >= 0)

    def context_free(self, truths: Iterable[Tensor]) -> Baseline:
        return _Means(truths, self.size)


class _Means(Baseline):
    """The mean of each code; the error is its square.

    Args:
        truths: (N, 2) of training tokens. size: V.
    """

    description = "each code's mean of the training records"

    def __init__(self, truths: Iterable[Tensor], size: int):
        total_V, count_V = (torch.zeros(size, dtype=torch.float64) for _ in range(2))
        for truth_N2 in truths:
            code_N, scaled_N = _numbers(truth_N2)
            total_V.index_add_(0, code_N, scaled_N)
            count_V += torch.bincount(code_N, minlength=size)
        self.mean_V = total_V / count_V.clamp(min=1)

    def loss(self, truth_N: Tensor) -> Tensor:
        truth_N2 = truth_N.cpu().double()
        code_N = truth_N2[:, 0].long()
        return (truth_N2[:, 1] - self.mean_V[code_N.clamp(min=0)]).square() * (code_N >= 0)


def _numbers(truth_N2: Tensor) -> tuple[Tensor, Tensor]:
    """(code_N, scaled_N) of those that are numbers."""
    truth_N2 = truth_N2[truth_N2[:, 0] >= 0].cpu().double()
    return truth_N2[:, 0].long(), truth_N2[:, 1]
