"""Pixels: the numbers of a patch."""

import pytest
import torch

from mmm.targets.pixels import Pixels
from mmm.testing import batch, check_target, near, toy_raws, toys

TOKENS = batch(toys(), toy_raws(8))


@pytest.mark.parametrize("normalise", [False, True])
def test_conforms(normalise):
    check_target(Pixels(normalise), "patches", TOKENS)


def test_truth_is_the_content_and_the_loss_its_mean_square():
    target = Pixels()
    target.bind("patches", TOKENS.tokenizers["patches"])
    truth = target.truth(TOKENS, TOKENS.index["patches"][[0, 3]])
    assert torch.equal(truth, TOKENS.content["patches"][[0, 3]])
    assert target.loss(truth + torch.tensor([2.0, 0, 0, 0]), truth).tolist() == [1.0, 1.0]


def test_normalised_truth_has_no_mean_and_unit_variance():
    target = Pixels(True)
    target.bind("patches", TOKENS.tokenizers["patches"])
    truth = target.truth(TOKENS, TOKENS.index["patches"])
    assert near(truth.mean(1), torch.zeros(len(truth)), 1e-4)
    assert near(truth.var(1), torch.ones(len(truth)), 1e-3)
    flat = batch({"patches": toys()["patches"]}, [{"patches": torch.ones(2, 2, 4)}])
    assert not target.truth(flat, torch.arange(4)).any()  # a patch of one colour is 0, not NaN


def test_other_content_is_refused():
    for name in ("ids", "wave"):
        with pytest.raises(ValueError, match=f"Pixels on '{name}'"):
            Pixels().bind(name, TOKENS.tokenizers[name])
