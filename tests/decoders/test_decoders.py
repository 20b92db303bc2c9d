"""Readout and the transformer decoder."""

import pytest
import torch

from mmm.core.view import View
from mmm.decoders.readout import Readout
from mmm.decoders.transformer_decoder import TransformerDecoder
from mmm.testing import batch, check_decoder, tiny_model, toy_raws, toys


def test_readout_conforms():
    check_decoder(Readout())


@pytest.mark.parametrize("depth", [1, 2])
def test_the_transformer_decoder_conforms(depth):
    torch.manual_seed(0)
    check_decoder(TransformerDecoder(24, depth, 4))


def test_readout_is_a_gather():
    model = tiny_model(toys())
    tokens = batch(model.modalities, toy_raws())
    hidden_T = tokens.layout.maskable_T
    view = View.of(tokens, hidden_T)
    assert torch.equal(model(view), model.encode(view).x_KD[hidden_T])


def test_readout_says_what_is_missing_where_tokens_were_dropped():
    model = tiny_model(toys())
    tokens = batch(model.modalities, toy_raws())
    hidden_T = tokens.layout.maskable_T & (tokens.layout.place_T == 1)
    view = View.of(tokens, hidden_T, kept_K=(~hidden_T).nonzero()[:, 0])
    with pytest.raises(ValueError, match="TransformerDecoder"):
        model(view)


def test_the_decoder_knows_dropped_tokens_by_place_and_modality_alone():
    """Two answers differ where the places differ, and dropped content has no way in."""
    torch.manual_seed(0)
    model = tiny_model(toys(), decoder=TransformerDecoder(24, 1, 4)).eval()
    tokens = batch(model.modalities, toy_raws())
    hidden_T = tokens.layout.maskable_T & (tokens.layout.place_T % 2 == 1)
    kept_K = (~hidden_T).nonzero()[:, 0]
    y_ND = model(View.of(tokens, hidden_T, kept_K=kept_K))
    assert not torch.equal(y_ND[0], y_ND[1])
    spoiled = {n: c.clone() for n, c in tokens.content.items()}
    for name in ("ids", "patches"):
        own_N = hidden_T[tokens.index[name]]
        spoiled[name][own_N] = 1 if name == "ids" else 99.0
    assert torch.equal(model(View.of(tokens.with_content(**spoiled), hidden_T, kept_K=kept_K)), y_ND)
