"""Neighbours together.

Shape suffixes: T packed tokens, P spans.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmm.core.draw import Draw
from mmm.core.masking import Masking
from mmm.core.rate import Rate
from mmm.core.tokens import Tokens


class Span(Masking):
    """Cut each segment into spans of geometric length and hide whole spans in random order; the last one is cut to the exact
    count.

    Spans begin at units, so none splits a unit. A token's span and rank are random numbers of their own, so rate and shape
    are independent.

    Paper: SpanBERT, arXiv:1907.10529, section 3.1; ranks shared by a span: GPT-BERT, arXiv:2410.24159.

    Args:
        rate: share of the maskable tokens to hide. mean: mean span length, in units.
    """

    def __init__(self, rate: float | Rate = 0.15, mean: float = 3.0):
        super().__init__(rate)
        if mean < 1:
            raise ValueError(f"Span(mean={mean}): a span is at least one unit long")
        self.mean = mean

    def rank(self, tokens: Tokens, progress: float, draw: Draw) -> Tensor:
        layout = tokens.layout
        start_T = torch.ones(len(layout), dtype=torch.bool)
        if len(layout):
            new_T = layout.unit_T[1:] != layout.unit_T[:-1]
            break_T = (layout.segment_T[1:] != layout.segment_T[:-1]) | (layout.modality_T[1:] != layout.modality_T[:-1])
            start_T[1:] = break_T | (new_T & (draw.per_token(layout, 0)[1:] < 1 / self.mean))
        span_T = start_T.long().cumsum(0) - 1
        return draw.per_token(layout, 1)[start_T][span_T]
