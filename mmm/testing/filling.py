"""What a sampler promises.

Shape suffixes: T packed tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmm.core.draw import Draw
from mmm.core.model import Model
from mmm.core.sampler import Sampler
from mmm.core.tokens import Tokens

from .tools import check_untouched, frozen, keyed, named


def check_sampler(sampler: Sampler, model: Model, tokens: Tokens, hidden_T: Tensor, drops: bool = False) -> None:
    """Hidden tokens get ids that may stand there, all others stay, and a record is filled in as if it were alone.

    Args:
        model: one with a head of the hidden tokens' ids. tokens: a batch. hidden_T: some of them, all ids.
        drops: hidden tokens are left out, which needs a decoder that answers for them.
    """
    who, before = named(sampler), frozen(tokens)
    model = model.eval()
    with keyed(sampler):
        done = sampler(model, tokens, hidden_T, Draw(5), drops)
    check_untouched(sampler, tokens, before)
    for name in tokens.names:
        was, now = tokens.content[name], done.content[name]
        index_N = tokens.index[name]
        if not hidden_T[index_N].any():
            assert torch.equal(was, now), f"{who} changes {name!r}, of which nothing is hidden."
            continue
        hidden_N = hidden_T[index_N]
        assert torch.equal(was[~hidden_N], now[~hidden_N]), f"{who} changes tokens of {name!r} that are not hidden."
        strange = ~torch.isin(now[hidden_N], tokens.tokenizers[name].choices)  # type: ignore[arg-type]
        assert not strange.any(), (
            f"{who} puts ids there that stand for no content, such as {int(now[hidden_N][strange][0])}. Draw from "
            "`guess`, which gives them none of the probability."
        )
    again = sampler(model, tokens, hidden_T, Draw(5), drops)
    for s in range(tokens.layout.segments):
        own_T = tokens.layout.segment_T == s
        alone = sampler(model, tokens.segment(s), hidden_T[own_T], Draw(5), drops)
        for other, what in ((alone, "alone"), (again.segment(s), "a second time")):
            same = all(torch.equal(done.segment(s).content[n], other.content[n]) for n in tokens.names)
            assert same, f"{who} fills segment {s} otherwise {what}. Key what you draw with draw.per_token(layout)."
    nothing = sampler(model, tokens, torch.zeros_like(hidden_T), Draw(5), drops)
    assert all(torch.equal(tokens.content[n], nothing.content[n]) for n in tokens.names), (
        f"{who} changes a batch of which nothing is hidden."
    )
