"""What an embedding promises.

Shape suffixes: R content rows, N tokens of one modality, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mmm.core.modality import Modality
from mmm.core.tokens import Tokens, pack
from mmm.core.view import View

from .tools import check_gradients, mixed, named, near
from .toys import ToyIds, batch, tiny_model


def hidden_of(tokens: Tokens) -> Tensor:
    """hidden_N that hides two maskable tokens of three."""
    return tokens.layout.maskable_T & (tokens.layout.place_T % 3 != 0)


def check_embedded(modality: Modality, tokens: Tokens, width: int) -> None:
    """x_ND: one row a token, and a gradient for every parameter.

    Args:
        modality: built. tokens: a batch of it alone. width: D.
    """
    part = tokens.part(tokens.names[0])
    modality.train()
    x_ND = modality.embed(part.content_R, part.layout_N, hidden_of(tokens))
    assert x_ND.shape == (len(tokens), width), (
        f"{named(modality)}.embed: {len(tokens)} tokens of width {width} expected, {tuple(x_ND.shape)} returned."
    )
    torch.autograd.backward(mixed(x_ND))
    check_gradients(modality, modality)
    modality.zero_grad()


def check_restored(modality: Modality, restored: Modality, tokens: Tokens) -> None:
    """Restored assets and a loaded state embed as the original does.

    Args:
        modality: built. restored: another, built, with its assets and its state. tokens: a batch of it alone.
    """
    x_ND = _embedded(modality, tokens)
    assert x_ND.isfinite().all(), f"{named(modality)}.embed is not finite."
    assert near(_embedded(restored, tokens), x_ND, 1e-6), (
        f"{named(modality)}: restored assets and a loaded state_dict embed otherwise. Is something learned kept in neither?"
    )


def check_hidden(modality: Modality, tokens: Tokens) -> None:
    """A hidden token shows the mask vector, and nothing of its content.

    Args:
        modality: built. tokens: a batch of it alone.
    """
    who, hidden_N, part = named(modality), hidden_of(tokens), tokens.part(tokens.names[0])
    tokenizer = tokens.tokenizers[tokens.names[0]]
    x_ND = _embedded(modality, tokens)
    with torch.no_grad():
        shown_ND = modality.embed(part.content_R, part.layout_N, torch.zeros_like(hidden_N))
        assert not (shown_ND == x_ND)[hidden_N].all(1).any(), (
            f"{who}.embed shows a hidden token as it is. Put the mask vector there."
        )
        if tokenizer.rowwise:
            changed_R = part.content_R.clone()
            changed_R[hidden_N] = changed_R[hidden_N] + 1 if tokenizer.choices is None else tokenizer.choices[0]
            leaked_ND = modality.embed(changed_R, part.layout_N, hidden_N)
            assert near(leaked_ND, x_ND, 1e-6), f"{who}.embed lets hidden content through: changing it changes the embedding."


def check_alone(modality: Modality, tokens: Tokens) -> None:
    """A record is embedded in a batch as it is alone.

    Args:
        modality: built. tokens: a batch of it alone.
    """
    x_ND, layout = _embedded(modality, tokens), tokens.layout
    with torch.no_grad():
        for s in range(layout.segments):
            own_N = layout.segment_T == s
            one = tokens.segment(s).part(tokens.names[0])
            alone_ND = modality.embed(one.content_R, one.layout_N, hidden_of(tokens)[own_N])
            assert near(x_ND[own_N], alone_ND), f"{named(modality)}.embed: segment {s} depends on its batch mates."


def _embedded(modality: Modality, tokens: Tokens) -> Tensor:
    part = tokens.part(tokens.names[0])
    modality.eval()
    with torch.no_grad():
        return modality.embed(part.content_R, part.layout_N, hidden_of(tokens))


def check_tied(modality: Modality, width: int) -> None:
    """What a tied head shares is a parameter, a row an id.

    Args:
        modality: built. width: D.
    """
    tied, shape = modality.tied(), (modality.tokenizer.size, width)
    assert tied is None or (isinstance(tied, nn.Parameter) and tied.shape == shape), (
        f"{named(modality)}.tied must be a parameter of shape {shape}: a view of one is not moved or copied with it."
    )


def check_absent(modality: Modality, raw: Any, width: int = 32) -> None:
    """Batches that lack the modality, and an empty one, go through a model that has it.

    Args:
        modality: fitted. raw: a raw value. width: D.
    """
    who, name = named(modality), "own"
    both: dict[str, Modality] = {name: modality, "other": ToyIds()}
    model = tiny_model(both, width=width)
    for raws_there in ([], [{"other": [1, 2, 3]}], [{"other": [1, 2, 3], name: raw}]):
        tokens = batch(both, raws_there)
        x_KD = model.embed(View.of(tokens, torch.zeros(len(tokens), dtype=torch.bool)))
        assert x_KD.shape == (len(tokens), width), (
            f"{who}: a batch of {[list(r) for r in raws_there]} is embedded as {tuple(x_KD.shape)}."
        )
    tokenizer = modality.tokenizer
    assert tokenizer.empty().shape[0] == 0 and len(pack([], {name: tokenizer})) == 0, f"{who}: empty() must have no rows."
