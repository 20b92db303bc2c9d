"""What an encoder and a decoder promise.

Shape suffixes: T packed tokens, K kept tokens, N asked tokens, D width.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from mmm.core.draw import Draw
from mmm.core.layout import Layout
from mmm.core.network import Decoder, Encoder
from mmm.core.rule import Causal
from mmm.core.tokens import pack
from mmm.core.view import View

from .tools import check_gradients, mixed, named, near
from .toys import batch, tiny_model, toy_raws, toys


def _states(layout: Layout, width: int) -> Tensor:
    """x_TD that depends on the record and the place alone."""
    draw = Draw(3)
    return torch.stack([draw.per_token(layout, d) for d in range(width)], 1) * 2 - 1


def check_encoder(encoder: Encoder) -> None:
    """Shapes, layers that are asked for, a packed record as if alone, rules obeyed or refused, gradients, nothing, copies."""
    who = named(encoder)
    tokens = batch(toys(), toy_raws())
    layout = tokens.layout
    x_TD = _states(layout, encoder.width)
    encoder.train()
    torch.autograd.backward(mixed(encoder(x_TD, layout).x_KD))
    check_gradients(encoder, encoder)
    encoder.zero_grad()
    encoder.eval()
    with torch.no_grad():
        wanted = tuple(range(encoder.depth + 1))
        encoded = encoder(x_TD, layout, want=wanted)
        assert encoded.x_KD.shape == x_TD.shape, (
            f"{who}: {tuple(x_TD.shape)} went in and {tuple(encoded.x_KD.shape)} came out; a token in is a token out."
        )
        assert tuple(sorted(encoded.layers)) == wanted, (
            f"{who}: want={wanted} returned layers {sorted(encoded.layers)}; 0 is the first block's input."
        )
        for s in range(layout.segments):
            one = tokens.segment(s).layout
            alone = encoder(_states(one, encoder.width), one).x_KD
            assert near(encoded.x_KD[layout.segment_T == s], alone), (
                f"{who}: segment {s} comes out differently packed and alone, so batch mates leak into it. "
                "Keep attention, convolutions and statistics inside a segment."
            )
        kept = layout.select((layout.segment_T % 2 == 0).nonzero()[:, 0])
        half = encoder(x_TD[layout.segment_T % 2 == 0], kept).x_KD
        assert near(half, encoded.x_KD[layout.segment_T % 2 == 0]), f"{who}: segments with no token left disturb the others."
        nothing = encoder(x_TD[:0], pack([], tokens.tokenizers).layout).x_KD
        assert nothing.shape == (0, encoder.width), (
            f"{who}: an empty batch must give (0, {encoder.width}), not {tuple(nothing.shape)}."
        )
        try:
            before = encoder(x_TD, layout, Causal()).x_KD
        except ValueError:
            pass  # an encoder may refuse a rule, aloud
        else:
            last_T = layout.place_T == torch.tensor(layout.lengths)[layout.segment_T] - 1
            after = encoder(torch.where(last_T[:, None], -x_TD, x_TD), layout, Causal()).x_KD
            assert near(before[~last_T], after[~last_T]), (
                f"{who} takes a Causal rule and does not obey it: the last token changes others. Obey or raise ValueError."
            )
        twin = copy.deepcopy(encoder)
        assert near(twin(x_TD, layout).x_KD, encoded.x_KD, 1e-6), f"{who}: a deep copy (a teacher) answers differently."


def check_decoder(decoder: Decoder, width: int = 32) -> None:
    """One answer a question, of its width; packed as alone; gradients; nothing asked; dropped tokens answered or refused."""
    who = named(decoder)
    model = tiny_model(toys(), decoder=decoder, width=width)
    tokens = batch(model.modalities, toy_raws())  # type: ignore[arg-type]
    hidden_T = tokens.layout.maskable_T & (tokens.layout.place_T % 3 == 1)
    for dropped in (False, True):
        view = View.of(tokens, hidden_T, kept_K=(~hidden_T).nonzero()[:, 0] if dropped else None)
        model.train()
        try:
            y_ND = model(view)
        except ValueError:
            assert dropped, f"{who} refuses a view of which nothing was dropped."
            break
        assert y_ND.shape == (len(view.read_N), decoder.width), (
            f"{who}: {len(view.read_N)} places were asked and its width is {decoder.width}; it returned {tuple(y_ND.shape)}."
        )
        torch.autograd.backward(mixed(y_ND))
        model.eval()
        with torch.no_grad():
            y_ND = model(view)
            for s in range(tokens.layout.segments):
                one = tokens.segment(s)
                own_T = hidden_T[tokens.layout.segment_T == s]
                alone = model(View.of(one, own_T, kept_K=(~own_T).nonzero()[:, 0] if dropped else None))
                assert near(y_ND[tokens.layout.segment_T[view.read_N] == s], alone), (
                    f"{who}: segment {s} is answered differently packed and alone, so batch mates leak into it."
                )
            nobody = View.of(tokens, torch.zeros_like(hidden_T))
            assert model(nobody).shape == (0, decoder.width), f"{who}: nothing asked must give (0, {decoder.width})."
            nothing = pack([], tokens.tokenizers)
            assert model(View.of(nothing, torch.zeros(0, dtype=torch.bool))).shape == (0, decoder.width), (
                f"{who}: an empty batch must give (0, {decoder.width})."
            )
    check_gradients(decoder, decoder)
