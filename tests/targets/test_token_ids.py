"""TokenIds: cross-entropy over the vocabulary."""

import math

import pytest
import torch

from mmm.targets.token_ids import TokenIds
from mmm.testing import batch, check_target, toy_raws, toys

TOKENS = batch(toys(), toy_raws(8))


def test_conforms():
    check_target(TokenIds(), "ids", TOKENS)


def test_the_loss_is_nats_a_token():
    target = TokenIds()
    target.bind("ids", TOKENS.tokenizers["ids"])
    assert target.size == 17
    answer_N = TOKENS.index["ids"][[1, 5]]
    truth_N = target.truth(TOKENS, answer_N)
    assert torch.equal(truth_N, TOKENS.content["ids"][[1, 5]])
    assert target.loss(torch.zeros(2, 17), truth_N).tolist() == pytest.approx([math.log(17)] * 2)
    assert target.loss(torch.nn.functional.one_hot(truth_N, 17).bfloat16() * 100, truth_N).tolist() == pytest.approx(
        [0, 0], abs=1e-4
    )


def test_content_that_is_not_ids_is_refused():
    with pytest.raises(ValueError, match="TokenIds on 'patches': its content is not ids"):
        TokenIds().bind("patches", TOKENS.tokenizers["patches"])
