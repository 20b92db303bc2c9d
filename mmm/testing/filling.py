"""What a sampler promises.

Shape suffixes: T packed tokens.
"""

from __future__ import annotations

from collections.abc import Callable

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
    who, was_training = named(sampler), model.training
    model.eval()
    covered = _written_over(tokens, hidden_T, lambda barred, choices: barred)
    before = frozen(covered)
    with keyed(sampler):
        done = sampler(model, covered, hidden_T, Draw(5), drops)
    check_untouched(sampler, covered, before)
    for name in tokens.names:
        hidden_N = hidden_T[tokens.index[name]]
        was, now = tokens.content[name], done.content[name]
        if not hidden_N.any():
            assert torch.equal(was, now), f"{who} changes {name!r}, of which nothing is hidden."
            continue
        assert torch.equal(was[~hidden_N], now[~hidden_N]), f"{who} changes tokens of {name!r} that are not hidden."
        strange = ~torch.isin(now[hidden_N], tokens.tokenizers[name].choices)  # type: ignore[arg-type]
        assert not strange.any(), (
            f"{who} leaves or puts ids there that stand for no content, such as {int(now[hidden_N][strange][0])}. Fill in "
            "every hidden token, and draw from `guess`, which gives those none of the probability."
        )
    peeked = sampler(model, _written_over(tokens, hidden_T, lambda barred, choices: choices[-1]), hidden_T, Draw(5), drops)
    assert all(torch.equal(done.content[n], peeked.content[n]) for n in tokens.names), (
        f"{who} looks at the hidden tokens: other ids under the mask change what it fills in. Hide them from `guess`."
    )
    again = sampler(model, covered, hidden_T, Draw(5), drops)
    for s in range(tokens.layout.segments):
        own_T = tokens.layout.segment_T == s
        alone = sampler(model, covered.segment(s), hidden_T[own_T], Draw(5), drops)
        for other, what in ((alone, "alone"), (again.segment(s), "a second time")):
            same = all(torch.equal(done.segment(s).content[n], other.content[n]) for n in tokens.names)
            assert same, f"{who} fills segment {s} otherwise {what}. Key what you draw with draw.per_token(layout)."
    nothing = sampler(model, tokens, torch.zeros_like(hidden_T), Draw(5), drops)
    assert all(torch.equal(tokens.content[n], nothing.content[n]) for n in tokens.names), (
        f"{who} changes a batch of which nothing is hidden."
    )
    model.train(was_training)


def _written_over(tokens: Tokens, hidden_T: Tensor, which: Callable[[Tensor, Tensor], Tensor]) -> Tokens:
    """The tokens with another id at the hidden ones: ``which`` of one that stands for no content, and of those that do."""
    content = {}
    for name, index_N in tokens.index.items():
        tokenizer = tokens.tokenizers[name]
        if hidden_T[index_N].any():
            choices = tokenizer.choices
            assert choices is not None, f"tokens of {name!r} are hidden, and are no ids"
            free = torch.ones(tokenizer.size, dtype=torch.bool).index_fill(0, choices, False).nonzero()[:, 0]
            barred = free[0] if len(free) else choices[0]
            content[name] = tokens.content[name].masked_fill(hidden_T[index_N], which(barred, choices))
    return tokens.with_content(**content)
