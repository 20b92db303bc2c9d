"""Spans that may overlap, by a count law of their own.

Shape suffixes: T packed tokens, F units that may be hidden, G pieces (one modality of one segment), S segments, M
modalities.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmm.core.draw import Draw
from mmm.core.masking import Masking
from mmm.core.rate import Rate
from mmm.core.tokens import Tokens


@dataclass(frozen=True)
class _Units:
    """Units of a batch that may be hidden, those of a piece together; a unit with a token that is not maskable is
    none of them.

    Args:
        unit_T: number of every token's unit here; len(piece_F) where it may not be hidden.
        first_F: first token of each. size_F: tokens. piece_F: segment x modalities + modality.
        length_G: units of every piece.
    """

    unit_T: Tensor
    first_F: Tensor
    size_F: Tensor
    piece_F: Tensor
    length_G: Tensor


class OverlappingSpans(Masking):
    """Spans of a fixed length at starts drawn without replacement; they overlap, so fewer tokens are hidden than
    ``rate`` says.

    A piece of n units gets floor(rate x n / length + u) spans, u uniform in [0, 1) and its own, but no more than fit
    side by side. A start is any of the n - length + 1 places where a span fits. At 0.8 and 10, a long piece has about
    1 - exp(-0.8) = 55 % of it hidden. A piece no longer than ``length`` has one span at most, of n - 1 units, so that
    something is left to see.

    Paper: wav2vec 2.0, arXiv:2006.11477, section 3.1 ("masking"); HuBERT, arXiv:2106.07447, section II.B.

    Args:
        rate: units in spans, counted as if none overlapped, as a share of the piece. length: units a span (10 of 20
            ms: 200 ms).
    """

    law = "floor(rate x n / length + u) spans of `length` units, which may overlap, in every piece of n maskable units"

    def __init__(self, rate: float | Rate = 0.8, length: int = 10):
        super().__init__(rate)
        if length < 1:
            raise ValueError(f"OverlappingSpans(length={length}): a span is at least one unit long")
        self.length = length

    def rank(self, tokens: Tokens, progress: float, draw: Draw) -> Tensor:
        """rank_T by which a token's unit becomes the start of a span."""
        return draw.per_token(tokens.layout)

    def hidden(self, tokens: Tokens, progress: float, draw: Draw) -> Tensor:
        """hidden_T."""
        units = _free_units(tokens)
        span_G, count_G = self._spans(tokens, units, progress, draw)
        piece_F, total = units.piece_F, len(units.piece_F)
        before_G = units.length_G.cumsum(0) - units.length_G
        place_F = torch.arange(total) - before_G[piece_F]
        # A piece's starts are the first `count` of the places where a span fits, in the order of their ranks.
        fits_F = place_F <= (units.length_G - span_G)[piece_F]
        rank_F = self.rank(tokens, progress, draw.stream("rank"))[units.first_F]
        order_F = torch.argsort(torch.where(fits_F, rank_F, torch.inf), stable=True)
        order_F = order_F[torch.argsort(piece_F[order_F], stable=True)]
        start_F = order_F[place_F < count_G[piece_F]]
        # Spans opened less spans closed, up to each unit.
        open_F = torch.zeros(total + 1, dtype=torch.int64)
        open_F.index_add_(0, start_F, torch.ones_like(start_F))
        open_F.index_add_(0, start_F + span_G[piece_F[start_F]], -torch.ones_like(start_F))
        return (open_F.cumsum(0) > 0)[units.unit_T] & (units.unit_T < total)

    def expected(self, tokens: Tokens, progress: float, draw: Draw) -> Tensor:
        """(low_SM, high_SM) stacked. Low: spans one unit apart, each unit a token. High: side by side, in the largest units."""
        units = _free_units(tokens)
        span_G, count_G = self._spans(tokens, units, progress, draw)
        shape = (tokens.layout.segments, len(tokens.names))
        size_F, piece_F = units.size_F, units.piece_F
        largest_G = torch.zeros_like(count_G).scatter_reduce_(0, piece_F, size_F, "amax")
        tokens_G = torch.zeros_like(count_G).index_add_(0, piece_F, size_F)
        low_G = torch.where(count_G > 0, span_G + count_G - 1, 0)
        high_G = torch.minimum(span_G * count_G * largest_G, tokens_G)
        return torch.stack([low_G.view(shape), high_G.view(shape)])

    def _spans(self, tokens: Tokens, units: _Units, progress: float, draw: Draw) -> tuple[Tensor, Tensor]:
        """(span_G, count_G): units a span, and spans, of every piece."""
        layout, modalities = tokens.layout, len(tokens.names)
        piece_G = torch.arange(layout.segments * modalities)
        segment_G, modality_G = piece_G // modalities, piece_G % modalities
        length_G = units.length_G
        span_G = torch.where(length_G > self.length, self.length, length_G - 1).clamp(min=1)
        uniform_G = draw.stream("count").uniform(
            layout.sample_S[segment_G], layout.epoch_S[segment_G], layout.part_S[segment_G], modality_G
        )
        rate_G = self.rates(tokens, progress, draw).double()[segment_G]
        count_G = (rate_G * length_G / self.length + uniform_G).long()
        return span_G, torch.minimum(count_G, (length_G // self.length).clamp(min=1))


def _free_units(tokens: Tokens) -> _Units:
    layout, modalities = tokens.layout, len(tokens.names)
    pieces = layout.segments * modalities
    piece_T = layout.segment_T * modalities + layout.modality_T
    _, unit_T, size_U = torch.unique_consecutive(
        torch.stack([piece_T, layout.unit_T]), dim=1, return_inverse=True, return_counts=True
    )
    first_U = size_U.cumsum(0) - size_U
    free_U = torch.bincount(unit_T[layout.maskable_T], minlength=len(size_U)) == size_U
    at_F = free_U.nonzero()[:, 0]
    at_F = at_F[torch.argsort(piece_T[first_U[at_F]], stable=True)]  # pieces of two modalities may be interleaved
    number_U = torch.full_like(size_U, len(at_F))
    number_U[at_F] = torch.arange(len(at_F))
    piece_F = piece_T[first_U[at_F]]
    return _Units(number_U[unit_T], first_U[at_F], size_U[at_F], piece_F, torch.bincount(piece_F, minlength=pieces))
