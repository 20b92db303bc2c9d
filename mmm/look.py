"""A view beside the clean tokens it was made of: what is hidden, and how.

Shape suffixes: T packed tokens, N tokens of one modality, R content rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .core.tokens import Tokens
from .core.view import View


@dataclass
class Look:
    """One view beside the clean tokens it was made of, told apart on the clean axis.

    Args:
        tokens: clean. view: what a corruption made of them.
        asked_T: predicted. masked_T: show the mask vector or never reach the encoder. replaced_T: show other content.
        hidden_T: all these, and those that are asked where they stand though shown as they are (BERT keeps 10 %).
    """

    tokens: Tokens
    view: View
    asked_T: Tensor
    masked_T: Tensor
    replaced_T: Tensor
    hidden_T: Tensor

    @classmethod
    def at(cls, tokens: Tokens, view: View) -> Look:
        """A view that moves tokens, or changes their number, hides what it asks: its places are not those of the clean axis."""
        none_T = torch.zeros(len(tokens), dtype=torch.bool)
        asked_T = none_T.index_fill(0, view.answer_N, True)
        if len(view.tokens) != len(tokens):
            return cls(tokens, view, asked_T, asked_T, none_T, asked_T)
        masked_T = view.hidden_T.clone()
        if view.kept_K is not None:
            masked_T |= ~none_T.index_fill(0, view.kept_K, True)
        replaced_T = none_T.clone()
        for name, index_N in tokens.index.items():
            if tokens.tokenizers[name].rowwise and len(index_N):
                other_R = view.tokens.content[name] != tokens.content[name]
                replaced_T[index_N] = other_R.view(len(index_N), -1).any(1)
        replaced_T &= ~masked_T
        in_place_T = none_T.index_fill(0, view.answer_N[view.read_N == view.answer_N], True)
        return cls(tokens, view, asked_T, masked_T, replaced_T, masked_T | replaced_T | in_place_T)

    @property
    def shown_T(self) -> Tensor:
        """Tokens that are asked where they stand, though shown as they are: their answers could be copied."""
        return self.hidden_T & ~self.masked_T & ~self.replaced_T
