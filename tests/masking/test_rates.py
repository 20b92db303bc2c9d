"""Rates that change and rates that are drawn."""

import math

import pytest
import torch

from mmm.core.draw import Draw
from mmm.masking.rates import Drawn, DrawnCosine, Scheduled
from mmm.masking.span import Span
from mmm.masking.uniform import Uniform
from mmm.testing import batch, check_masking, toy_raws, toys

TOKENS = batch(toys(), toy_raws(16))
MANY = batch({"ids": toys()["ids"]}, [{"ids": [1]}] * 2000).layout


@pytest.mark.parametrize("rate", [Scheduled(0.3, 0.15), Scheduled(0, 1, "cosine"), Drawn(), Drawn(0.2, 0.4), DrawnCosine()])
def test_any_rate_keeps_the_counts_exact(rate):
    check_masking(Uniform(rate), TOKENS)
    check_masking(Span(rate), TOKENS)


def test_schedules_run_from_start_to_end():
    for curve in ("linear", "cosine"):
        at = [float(Scheduled(0.3, 0.15, curve)(TOKENS.layout, p, Draw(0))[0]) for p in (0, 0.25, 0.5, 1)]
        assert at[0] == pytest.approx(0.3)
        assert at[2] == pytest.approx(0.225)
        assert at[3] == pytest.approx(0.15)
        assert at[1] == pytest.approx(0.2625 if curve == "linear" else 0.3 - 0.15 * (1 - math.cos(math.pi / 4)) / 2)


def test_drawn_rates_are_uniform_between_the_bounds_and_belong_to_the_record():
    rate_S = Drawn(0.2, 0.6)(MANY, 0, Draw(0))
    assert rate_S.dtype == torch.float64
    assert rate_S.min() >= 0.2
    assert rate_S.max() <= 0.6
    assert float(rate_S.mean()) == pytest.approx(0.4, abs=0.01)
    assert float(rate_S.std()) == pytest.approx(0.4 / 12**0.5, abs=0.01)
    assert torch.equal(Drawn(0.2, 0.6)(MANY.cut(7), 0, Draw(0)), rate_S[7:8])


def test_the_cosine_rate_is_mostly_high():
    rate_S = DrawnCosine()(MANY, 0, Draw(0))
    assert rate_S.min() >= 0
    assert rate_S.max() <= 1
    assert float(rate_S.mean()) == pytest.approx(2 / math.pi, abs=0.02)


def test_refusals():
    with pytest.raises(ValueError, match=r"start 1\.2"):
        Scheduled(1.2, 0)
    with pytest.raises(ValueError, match="low is above high"):
        Drawn(0.5, 0.2)
