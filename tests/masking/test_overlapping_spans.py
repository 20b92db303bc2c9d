"""OverlappingSpans: the published law, whole units, bounds that hold, nothing that hangs on batch mates."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from mmm.core.draw import Draw
from mmm.core.modality import Tokenizer
from mmm.core.tokens import Piece, Sample, Tokens, pack
from mmm.masking.overlapping_spans import OverlappingSpans


class Numbers(Tokenizer):
    """The least tokenizer there is."""

    def tokenize(self, raw, draw=None):
        return Piece(torch.zeros(raw), torch.arange(raw))

    def detokenize(self, content_R):
        return content_R

    def empty(self) -> Tensor:
        return torch.zeros(0)

    def records(self, path):
        return iter(())

    def length(self, record):
        return record.raw


def batch(*lengths: int, first: int = 0) -> Tokens:
    tokenizer = Numbers()
    samples = [Sample({"a": tokenizer.tokenize(n)}, sample=first + i) for i, n in enumerate(lengths)]
    return pack(samples, {"a": tokenizer})


def counts(tokens: Tokens, hidden_T: Tensor) -> Tensor:
    modalities = len(tokens.names)
    flat = tokens.layout.segment_T * modalities + tokens.layout.modality_T
    return torch.bincount(flat[hidden_T], minlength=tokens.layout.segments * modalities).view(-1, modalities)


def runs(hidden_T: Tensor) -> list[int]:
    """Lengths of the runs of hidden tokens."""
    edges = torch.diff(hidden_T.int(), prepend=torch.zeros(1).int(), append=torch.zeros(1).int())
    return ((edges == -1).nonzero()[:, 0] - (edges == 1).nonzero()[:, 0]).tolist()


@pytest.mark.parametrize(("n", "rate", "length"), [(100, 0.8, 10), (237, 0.8, 10), (500, 0.65, 10), (64, 0.5, 5)])
def test_share_agrees_with_transformers(n, rate, length):
    from transformers.models.hubert.modeling_hubert import _compute_mask_indices

    repeats = 1500
    np.random.seed(0)
    theirs = np.stack([_compute_mask_indices((1, n), rate, length)[0] for _ in range(repeats)])
    tokens = batch(*[n] * repeats)
    ours = OverlappingSpans(rate, length).hidden(tokens, 0.0, Draw(1)).view(repeats, n).numpy()
    deviation = theirs.mean(1).std() * (2 / repeats) ** 0.5
    assert abs(ours.mean() - theirs.mean()) < 4 * deviation
    assert abs(ours.mean(1).std() - theirs.mean(1).std()) < 0.15 * theirs.mean(1).std()
    # also place by place: the ends are hidden less often than the middle
    assert np.abs(ours.mean(0) - theirs.mean(0)).max() < 5 * (0.5 / repeats) ** 0.5


def test_runs_are_spans():
    hidden_T = OverlappingSpans(0.4, 7).hidden(batch(400), 0.0, Draw(3))
    assert min(runs(hidden_T)) >= 7


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.8, 1.0])
def test_bounds_hold(rate):
    masking = OverlappingSpans(rate, 10)
    for seed in range(20):
        tokens = batch(1, 2, 5, 10, 11, 12, 40, 333, first=8 * seed)
        low_SM, high_SM = masking.expected(tokens, 0.0, Draw(seed))
        count_SM = counts(tokens, masking.hidden(tokens, 0.0, Draw(seed)))
        assert (low_SM <= count_SM).all()
        assert (count_SM <= high_SM).all()
        if rate == 0:
            assert count_SM.sum() == 0


def test_short_pieces_keep_something_to_see():
    for n in range(2, 12):
        hidden = OverlappingSpans(1.0, 10).hidden(batch(*[n] * 50), 0.0, Draw(0)).view(50, n)
        assert hidden.any()
        assert not hidden.all(1).any()


def test_whole_units_and_specials():
    tokenizer = Numbers()
    units = torch.tensor([0, 1, 1, 1, 2, 3, 3, 4, 4, 4, 4, 5, 6, 6, 7, 8])
    maskable = torch.ones(16, dtype=torch.bool)
    maskable[[0, 8, 15]] = False  # a CLS, a token inside unit 4, a separator
    piece = Piece(torch.zeros(16), torch.arange(16), units, maskable)
    samples = [Sample({"a": piece, "b": tokenizer.tokenize(30)}, sample=i) for i in range(64)]
    tokens = pack(samples, {"a": tokenizer, "b": tokenizer})
    masking = OverlappingSpans(0.6, 2)
    hidden_T = masking.hidden(tokens, 0.0, Draw(0))
    low_SM, high_SM = masking.expected(tokens, 0.0, Draw(0))
    count_SM = counts(tokens, hidden_T)
    assert (low_SM <= count_SM).all()
    assert (count_SM <= high_SM).all()
    hidden = hidden_T.view(64, 46)[:, :16]
    assert not hidden[:, [0, 7, 8, 9, 10, 15]].any()
    for unit in (1, 3, 6):
        inside = hidden[:, units == unit]
        assert (inside.any(1) == inside.all(1)).all()
    assert hidden[:, 1].any()
    assert count_SM[:, 1].min() > 0


def test_independent_of_batch_mates():
    masking = OverlappingSpans()
    alone = [masking.hidden(batch(n, first=i), 0.0, Draw(5)) for i, n in enumerate((30, 60, 90))]
    together = masking.hidden(batch(30, 60, 90), 0.0, Draw(5))
    assert torch.equal(torch.cat(alone), together)
    assert not torch.equal(together, masking.hidden(batch(30, 60, 90), 0.0, Draw(6)))


def test_empty_batch():
    tokens = pack([], {"a": Numbers()})
    assert OverlappingSpans().hidden(tokens, 0.0, Draw(0)).shape == (0,)


def test_refuses_a_span_of_nothing():
    with pytest.raises(ValueError, match="length=0"):
        OverlappingSpans(length=0)
