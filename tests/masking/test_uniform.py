"""Uniform: any unit may be hidden, with one probability."""

import torch

from mmm.core.draw import Draw
from mmm.masking.uniform import Uniform
from mmm.testing import batch, check_masking, toy_raws, toys

TOKENS = batch(toys(), toy_raws(16))


def test_conforms():
    for rate in (0, 0.15, 0.5, 1):
        check_masking(Uniform(rate), TOKENS)


def test_places_are_hidden_alike_and_independently_of_their_neighbours():
    ids = [list(range(1, 17)) + list(range(1, 16))] * 200  # a special and 31 ids: 16 units, of which one is special
    tokens = batch({"ids": toys()["ids"]}, [{"ids": raw} for raw in ids])
    hidden = Uniform(0.5).hidden(tokens, 0, Draw(3)).view(200, 32)[:, 1:].double()
    count = hidden[:, ::2].sum(0)  # one token a unit; 15 or 16 of 31 hidden
    assert (abs(count - 100) < 35).all()
    correlation = torch.corrcoef(hidden[:, :-1:2].T)
    off = correlation - torch.diag(correlation.diag())
    assert off.abs().max() < 0.35
    assert abs(float(off.mean())) < 0.1
