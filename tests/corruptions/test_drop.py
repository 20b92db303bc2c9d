"""Drop: only the visible tokens are encoded."""

import torch

from mmm.core.draw import Draw
from mmm.corruptions.drop import Drop
from mmm.masking.uniform import Uniform
from mmm.testing import batch, check_corruption, tiny_model, toy_raws, toys

TOKENS = batch(toys(), toy_raws(12))


def test_conforms():
    for rate in (0.0, 0.75, 1.0):
        check_corruption(Drop(), TOKENS, Uniform(rate).hidden(TOKENS, 0, Draw(0)))


def test_the_encoder_runs_on_exactly_the_visible_tokens():
    hidden_T = Uniform(0.75).hidden(TOKENS, 0, Draw(0))
    view = Drop()(TOKENS, hidden_T, 0, Draw(0))
    model = tiny_model(toys())
    shapes = []
    model.encoder.blocks[0].register_forward_hook(lambda block, args, out: shapes.append(tuple(out.shape)))
    rows = []
    model.modalities["ids"].table.register_forward_hook(lambda table, args, out: rows.append(len(out)))
    model.encode(view)
    assert shapes == [(int((~hidden_T).sum()), 32)]
    assert rows == [int((~hidden_T)[TOKENS.index["ids"]].sum())]  # and not even embedded
    assert torch.equal(view.layout_K.unit_T, TOKENS.layout.unit_T[~hidden_T])
