"""Which value of which code a token is.

Shape suffixes: N asked tokens, V items.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from mmm.core.modality import Tokenizer
from mmm.core.target import Baseline, Target
from mmm.core.tokens import Tokens

from ._tokenizer import LabTokenizer


class LabCode(Target):
    """Cross-entropy over items: codes of numbers, and words of the codes that have words.

    Where codes are seen (``Labs(hide="value")``) only the words of a token's own code compete: numbers cost nothing then.

    Paper: BERT, arXiv:1810.04805, section 3.1.
    """

    unit = "nats a token"

    def bind(self, name: str, tokenizer: Tokenizer) -> None:
        """Raises ValueError where the modality is no table of values, or nothing is left to be asked."""
        super().bind(name, tokenizer)
        if not isinstance(tokenizer, LabTokenizer):
            raise ValueError(f"LabCode on {name!r}: needs the modality Labs")
        panel = tokenizer.fitted
        if tokenizer.shown and not panel.categories:
            raise ValueError(
                f"LabCode on {name!r}: with hide: value every code is seen, and none has words: nothing is left to predict; "
                "leave LabCode out"
            )
        self.size = len(panel.items)
        self.group_V = panel.column_I if tokenizer.shown else torch.zeros(self.size, dtype=torch.int64)

    def truth(self, tokens: Tokens, answer_N: Tensor) -> Tensor:
        return tokens.content[self.name][tokens.number_T[answer_N], 0].long()

    def loss(self, output_NV: Tensor, truth_N: Tensor) -> Tensor:
        return F.cross_entropy(self._open(output_NV, truth_N), truth_N, reduction="none")

    def likeliest(self, output_NV: Tensor, truth_N: Tensor) -> Tensor:
        """item_N, among those that can stand at a token."""
        return self._open(output_NV, truth_N).argmax(-1)

    def _open(self, output_NV: Tensor, truth_N: Tensor) -> Tensor:
        group_V = self.group_V.to(truth_N.device)
        return output_NV.float().masked_fill(group_V[truth_N][:, None] != group_V, -torch.inf)

    def context_free(self, truths: Iterable[Tensor]) -> Baseline:
        return _Shares(truths, self.group_V)


class _Shares(Baseline):
    """-log((count + 1) / (count of the group + its size)).

    Args:
        truths: items of training tokens. group_V: items that compete have one number.
    """

    description = "add-one unigram of the training records"

    def __init__(self, truths: Iterable[Tensor], group_V: Tensor):
        count_V = torch.ones(len(group_V), dtype=torch.float64)
        for truth_N in truths:
            count_V += torch.bincount(truth_N.cpu(), minlength=len(group_V))
        total_G = torch.zeros(len(group_V), dtype=torch.float64).index_add_(0, group_V, count_V)
        self.loss_V = -(count_V / total_G[group_V]).log()

    def loss(self, truth_N: Tensor) -> Tensor:
        return self.loss_V[truth_N.cpu()]
