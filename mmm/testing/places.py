"""What a masking and a corruption promise.

Shape suffixes: T packed tokens, N asked tokens, S segments, M modalities, U units.
"""

from __future__ import annotations

from multiprocessing.pool import Pool

import torch
from torch import Tensor

from mmm.core.corruption import Corruption
from mmm.core.draw import Draw
from mmm.core.masking import Masking
from mmm.core.tokens import Tokens, pack
from mmm.core.view import View

from .tools import check_untouched, frozen, keyed, named


def check_counts(masking: Masking, tokens: Tokens, hidden_T: Tensor, progress: float, draw: Draw) -> None:
    """Specials stay, no unit is split, and every (segment, modality) has as many hidden tokens as the masking's law says."""
    layout, who = tokens.layout, named(masking)
    assert hidden_T.dtype == torch.bool and hidden_T.shape == (len(tokens),), (
        f"{who}.hidden must return one bool a token, ({len(tokens)},); it returned {hidden_T.dtype} {tuple(hidden_T.shape)}."
    )
    bad = (hidden_T & ~layout.maskable_T).nonzero()[:, 0].tolist()
    assert not bad, f"{who} hides tokens {bad[:5]}, which are not maskable (specials). Leave them out of the ranking's reach."
    if len(tokens):
        unit_T = layout.unit_T
        some_U = torch.zeros(int(unit_T.max()) + 1, dtype=torch.bool).index_fill(0, unit_T[hidden_T], True)
        split = (some_U[unit_T] & ~hidden_T).nonzero()[:, 0].tolist()
        assert not split, f"{who} splits the unit of token {split[0]}: hide all tokens of a unit (layout.unit_T) or none."
    low_SM, high_SM = masking.expected(tokens, progress, draw)
    shape = (layout.segments, len(tokens.names))
    assert low_SM.shape == shape, f"{who}.expected must return (2, segments, modalities) = {(2, *shape)}."
    flat_T = layout.segment_T * shape[1] + layout.modality_T
    count_SM = torch.bincount(flat_T[hidden_T], minlength=shape[0] * shape[1]).view(shape)
    for s, m in ((count_SM < low_SM) | (count_SM > high_SM)).nonzero().tolist():
        raise AssertionError(
            f"{who} hides {int(count_SM[s, m])} tokens of {tokens.names[m]!r} in segment {s}; its law ({masking.law}) allows "
            f"{int(low_SM[s, m])} to {int(high_SM[s, m])}. Return a ranking and let `hide` count, or override `expected` too."
        )


def check_masking(masking: Masking, tokens: Tokens, pool: Pool | None = None) -> None:
    """Exact counts, and a mask that depends on the record, its epoch and the draw alone.

    Args:
        tokens: any batch. pool: of another process, to compare with.
    """
    layout, who = tokens.layout, named(masking)
    before = frozen(tokens)
    for progress in (0.0, 0.5, 1.0):
        draw = Draw(5).stream("mask")
        with keyed(masking):
            hidden_T = masking.hidden(tokens, progress, draw)
        check_untouched(masking, tokens, before)
        check_counts(masking, tokens, hidden_T, progress, draw)
        again_T = masking.hidden(tokens, progress, Draw(5).stream("mask"))
        assert torch.equal(hidden_T, again_T), f"{who} gives two masks for one draw. Keep no state between calls."
        for s in range(layout.segments):
            alone_T = masking.hidden(tokens.segment(s), progress, draw)
            assert torch.equal(hidden_T[layout.segment_T == s], alone_T), (
                f"{who} gives segment {s} another mask alone than in a batch. Use draw.per_token(layout) and "
                "draw.per_segment(layout): they are keyed by record and place, not by the position in the batch."
            )
    free = int(layout.maskable_T.sum())
    if free >= 100 and 0.1 < float(hidden_T.sum()) / free < 0.9:
        other_T = masking.hidden(tokens, 1.0, Draw(6).stream("mask"))
        assert not torch.equal(hidden_T, other_T), f"{who} gives one mask whatever the draw. Use `draw` in `rank`."
    empty_T = masking.hidden(pack([], tokens.tokenizers), 0.0, draw)
    assert empty_T.shape == (0,), f"{who} on an empty batch must return an empty mask, not {tuple(empty_T.shape)}."
    if pool is not None:
        there_T = torch.tensor(pool.apply(_hidden_elsewhere, (masking, tokens)))
        assert torch.equal(hidden_T, there_T), (
            f"{who} gives another mask in another process. Does it use hash(), a set's order or the clock?"
        )


def _hidden_elsewhere(masking: Masking, tokens: Tokens) -> list[bool]:
    return masking.hidden(tokens, 1.0, Draw(5).stream("mask")).tolist()


def check_view(owner: object, view: View, clean: Tokens) -> None:
    """A view's indices agree with one another."""
    who, count, length = named(owner), len(view.answer_N), len(view.tokens)
    assert view.read_N.shape == view.answer_N.shape == view.weight_N.shape == (count,), (
        f"{who}: read_N, answer_N and weight_N must be of one length."
    )
    assert view.hidden_T.shape == (length,), f"{who}: hidden_T is on the view's axis, {length} tokens long."
    if count:
        assert int(view.read_N.min()) >= 0 and int(view.read_N.max()) < length, f"{who}: read_N points outside the view."
        assert int(view.answer_N.min()) >= 0 and int(view.answer_N.max()) < len(clean), (
            f"{who}: answer_N points outside the clean tokens."
        )
        assert clean.layout.maskable_T[view.answer_N].all(), (
            f"{who} asks for specials (answer_N), which nobody should have to guess."
        )
    each = torch.cat([view.asked[n] for n in view.tokens.names]).sort().values
    assert torch.equal(each, torch.arange(count)), (
        f"{who}: `asked` must put every answer under one modality. Build views with View.of."
    )
    if view.kept_K is not None:
        assert (view.kept_K[1:] > view.kept_K[:-1]).all(), f"{who}: kept_K must be ascending."
    assert len(view.layout_K) == (length if view.kept_K is None else len(view.kept_K)), (
        f"{who}: layout_K must be that of kept_K."
    )


def check_corruption(corruption: Corruption, tokens: Tokens, hidden_T: Tensor) -> None:
    """A sound view, clean tokens untouched, and a record that looks the same alone and in a batch."""
    who, draw = named(corruption), Draw(5).stream("corrupt")
    before = frozen(tokens)
    with keyed(corruption):
        view = corruption(tokens, hidden_T, 0.5, draw)
    check_untouched(corruption, tokens, before)
    check_view(corruption, view, tokens)
    again = corruption(tokens, hidden_T, 0.5, Draw(5).stream("corrupt"))
    for s in range(tokens.layout.segments):
        own_T = tokens.layout.segment_T == s
        alone = corruption(tokens.segment(s), hidden_T[own_T], 0.5, draw)
        check_view(corruption, alone, tokens.segment(s))
        for other, what in ((alone.tokens, "alone"), (again.tokens.segment(s), "a second time")):
            seen = view.tokens.segment(s)
            same = all(torch.equal(seen.content[n], other.content[n]) for n in tokens.names)
            assert same, f"{who} gives segment {s} other content {what}. Key random content with draw.per_token(layout)."
        shows_T = view.hidden_T[view.tokens.layout.segment_T == s]
        assert torch.equal(shows_T, alone.hidden_T), f"{who} hides other tokens of segment {s} alone than in a batch."
        if view.kept_K is not None:
            assert alone.kept_K is not None and view.layout_K.lengths[s] == len(alone.kept_K), (
                f"{who} keeps another number of tokens of segment {s} alone than in a batch."
            )
    check_view(corruption, corruption(tokens, torch.zeros_like(hidden_T), 0.5, draw), tokens)
    nothing = pack([], tokens.tokenizers)
    assert len(corruption(nothing, hidden_T[:0], 0.5, draw).tokens) == 0, f"{who} makes tokens of an empty batch."
