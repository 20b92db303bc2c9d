"""Span: geometric spans, hidden whole."""

import pytest
import torch

from mmm.core.draw import Draw
from mmm.masking.span import Span
from mmm.masking.uniform import Uniform
from mmm.testing import batch, check_masking, toy_raws, toys

TOKENS = batch(toys(), toy_raws(16))
LONG = batch({"wave": toys()["wave"]}, [{"wave": torch.zeros(4 * 512)}] * 20)


def runs(hidden_T: torch.Tensor) -> int:
    """Stretches of hidden neighbours over all segments."""
    rows = hidden_T.view(20, 512).int()
    return int((rows.diff(dim=1, prepend=torch.zeros(20, 1, dtype=torch.int32)) == 1).sum())


def test_conforms():
    for mean in (1, 2.5, 10):
        check_masking(Span(0.3, mean), TOKENS)


@pytest.mark.parametrize("mean", [1.0, 3.0, 8.0])
def test_spans_have_the_mean_length(mean):
    rank_T = Span(0.15, mean).rank(LONG, 0, Draw(1))
    rows = rank_T.view(20, 512)
    spans = 20 + int((rows[:, 1:] != rows[:, :-1]).sum())
    assert 20 * 512 / spans == pytest.approx(mean, rel=0.05)


def test_hidden_tokens_stand_together():
    span, uniform = (runs(m.hidden(LONG, 0, Draw(2))) for m in (Span(0.15, 5), Uniform(0.15)))
    assert span < 0.3 * uniform


def test_a_span_never_crosses_a_modality_or_a_segment():
    rank_T = Span(0.5, 50).rank(TOKENS, 0, Draw(0))
    layout = TOKENS.layout
    key_T = layout.segment_T * 10 + layout.modality_T
    for rank in rank_T.unique():
        assert len(key_T[rank_T == rank].unique()) == 1


def test_refusals():
    with pytest.raises(ValueError, match=r"Span\(mean=0.5\)"):
        Span(0.15, 0.5)
    with pytest.raises(ValueError, match=r"rate 1.5"):
        Span(1.5)
