"""MaskVector: the split, what random content is, and what it leaves alone."""

import pytest
import torch

from mmm.core.draw import Draw
from mmm.corruptions.mask_vector import MaskVector
from mmm.masking.uniform import Uniform
from mmm.testing import batch, check_corruption, toy_raws, toys

TOKENS = batch(toys(), toy_raws(12))
HIDDEN_T = Uniform(0.5).hidden(TOKENS, 0, Draw(0))


@pytest.mark.parametrize(
    "shares", [(0.0, 0.0), (0.0, 1.0), ({"ids": 0.1, "patches": 0.5}, 0.1), ({"patches": 1.0}, {"wave": 0.3})]
)
def test_conforms(shares):
    check_corruption(MaskVector(*shares), TOKENS, HIDDEN_T)


def test_the_split_is_80_10_10():
    tokens = batch({"ids": toys()["ids"]}, [{"ids": [1 + i % 16 for i in range(99)]}] * 200)
    hidden_T = tokens.layout.maskable_T
    view = MaskVector(0.1, 0.1)(tokens, hidden_T, 0, Draw(1))
    n = int(hidden_T.sum())
    masked = int(view.hidden_T.sum())
    shown_T = hidden_T & ~view.hidden_T
    changed = int((view.tokens.content["ids"] != tokens.content["ids"])[shown_T].sum())
    for count, share in ((masked, 0.8), (changed, 0.1 * 15 / 16)):  # one random id in 16 is the old one
        assert abs(count - n * share) < 4 * (n * share * (1 - share)) ** 0.5
    assert torch.equal(view.answer_N, hidden_T.nonzero()[:, 0])
    assert len(view.answer_N) == n


def test_random_ids_are_uniform_over_the_choices():
    tokens = batch({"ids": toys()["ids"]}, [{"ids": [3] * 99}] * 100)
    hidden_T = tokens.layout.maskable_T
    ids = MaskVector(1.0)(tokens, hidden_T, 0, Draw(2)).tokens.content["ids"]
    count = torch.bincount(ids[hidden_T], minlength=17)
    assert count[0] == 0
    assert (abs(count[1:] - 9900 / 16) < 100).all()
    assert (ids[~hidden_T] == 0).all()


def test_random_patches_come_from_the_same_record_and_random_is_not_identity():
    raws = [{"patches": torch.full((4, 4, 4), float(i)) + torch.arange(16.0).view(4, 4, 1) / 100} for i in range(6)]
    tokens = batch({"patches": toys()["patches"]}, raws)
    seen = MaskVector(1.0)(tokens, tokens.layout.maskable_T, 0, Draw(0)).tokens.content["patches"]
    assert torch.equal(seen.floor(), tokens.content["patches"].floor())
    same = (seen == tokens.content["patches"]).all(1).double().mean()
    assert same < 0.2
    assert {tuple(r) for r in seen.tolist()} <= {tuple(r) for r in tokens.content["patches"].tolist()}


def test_shares_go_by_modality():
    view = MaskVector({"ids": 1.0}, {"patches": 1.0})(TOKENS, HIDDEN_T, 0, Draw(0))
    for name, shows in (("ids", False), ("patches", False), ("wave", True)):
        own_N = TOKENS.index[name]
        assert torch.equal(view.hidden_T[own_N], HIDDEN_T[own_N] & shows)
    assert torch.equal(view.tokens.content["patches"], TOKENS.content["patches"])
    assert not torch.equal(view.tokens.content["ids"], TOKENS.content["ids"])


def test_refusals():
    for wrong in ((0.6, 0.6), (-0.1, 0), (0.5, {"ids": 0.6})):
        with pytest.raises(ValueError, match="together at most 1"):
            MaskVector(*wrong)
    with pytest.raises(ValueError, match=r"no modality 'idz'. Did you mean 'ids'"):
        MaskVector({"idz": 0.1})(TOKENS, HIDDEN_T, 0, Draw(0))
    with pytest.raises(ValueError, match=r"random=...\) on 'wave'"):
        MaskVector(0.1)(TOKENS, HIDDEN_T, 0, Draw(0))
