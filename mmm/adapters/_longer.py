"""The packed axis with learned rows before every segment.

Shape suffixes: T packed tokens, M packed tokens and learned rows, P learned rows a segment, S segments, Q asking tokens,
K answering tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmm.core.layout import Layout
from mmm.core.rule import Causal, Rule

_LEARNED = -1  # unit_M of a learned row; the units of tokens are 0 or more


@dataclass(frozen=True)
class Longer:
    """A layout with P rows before each segment that holds a token.

    Args:
        layout: of the longer axis. A learned row has its segment's first modality, stands at position -1 (one before the
            first token; off any grid), and cannot be masked.
        near_M: the token that each row is, for a learned row the first of its segment.
        own_T: where each token lies on the longer axis.
    """

    layout: Layout
    near_M: Tensor
    own_T: Tensor

    @classmethod
    def of(cls, layout: Layout, rows: int) -> Longer:
        """``layout`` with ``rows`` rows more a segment. Worked out on the layout's device, which is never waited for."""
        device, lengths = layout.segment_T.device, tuple(n + rows if n else 0 for n in layout.lengths)
        length_S = torch.tensor(lengths, dtype=torch.int64, device=device)
        number_S = torch.arange(len(lengths), device=device)
        segment_M = torch.repeat_interleave(number_S, length_S, output_size=sum(lengths))
        place_M = torch.arange(len(segment_M), device=device) - (length_S.cumsum(0) - length_S)[segment_M]
        near_M = layout.start_S[segment_M] + (place_M - rows).clamp(min=0)
        token_M = place_M >= rows
        longer = replace(
            layout,
            modality_T=layout.modality_T[near_M],
            position_TC=torch.where(token_M[:, None], layout.position_TC[near_M], -1.0),
            segment_T=segment_M,
            unit_T=torch.where(token_M, layout.unit_T[near_M], _LEARNED),
            maskable_T=layout.maskable_T[near_M] & token_M,
            lengths=lengths,
            runs=(),
        )
        before_S = rows * (length_S > 0).cumsum(0)
        own_T = torch.arange(len(layout), device=device) + before_S[layout.segment_T]
        return cls(longer, near_M, own_T)

    def insert(self, x_T: Tensor, learned_P: Tensor) -> Tensor:
        """x_M of rows (T, ...): the learned rows (P, ...) before each segment."""
        return put(x_T.index_select(0, self.near_M), learned_P, self.layout)

    def remove(self, x_M: Tensor) -> Tensor:
        """x_T of the tokens alone."""
        return x_M.index_select(0, self.own_T)


def put(x_M: Tensor, learned_P: Tensor, layout_M: Layout) -> Tensor:
    """x_M with these values in the learned rows of every segment."""
    learned_M = (layout_M.unit_T == _LEARNED).view(-1, *[1] * (x_M.ndim - 1))
    place_M = layout_M.place_T.clamp(max=len(learned_P) - 1)
    return torch.where(learned_M, learned_P.to(x_M.dtype).index_select(0, place_M), x_M)


class Beside(Rule):
    """A rule among the tokens of a longer axis. Everyone sees the learned rows; these see one another alone, so that nothing
    passes through them from a token to one that may not see it.

    Args:
        rule: among tokens, asked about the layout that they had.
    """

    def __init__(self, rule: Rule):
        self.rule = rule

    def allowed(self, query: Layout, key: Layout) -> Tensor:
        own_Q, own_K = (x.unit_T != _LEARNED for x in (query, key))
        index_Q, index_K = own_Q.nonzero()[:, 0], own_K.nonzero()[:, 0]
        allowed_QK = (~own_K).repeat(len(own_Q), 1)
        allowed_QK[index_Q[:, None], index_K] = self.rule.allowed(query.select(index_Q), key.select(index_K))
        return allowed_QK


def beside(rule: Rule | None) -> Rule | None:
    """The rule on the longer axis. None and Causal mean there what they should and keep their fast paths."""
    return rule if rule is None or isinstance(rule, Causal) else Beside(rule)
