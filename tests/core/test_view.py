"""What a view works out: which rows are embedded, where kept and asked tokens then lie."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmm.core.view import View
from mmm.testing import batch, toy_raws, toys

TOKENS = batch(toys(), toy_raws())
LENGTH = len(TOKENS)
bools = st.lists(st.booleans(), min_size=LENGTH, max_size=LENGTH).map(torch.tensor)


def embedded(view: View) -> torch.Tensor:
    """Packed places in the order in which a model lays the embedded tokens out."""
    return torch.cat([part.index_N for part, _ in view.parts])


@settings(max_examples=50, deadline=None)
@given(bools, bools, st.booleans())
def test_gather_finds_the_kept_tokens(hidden_T, keep_T, all_kept):
    kept_K = None if all_kept else keep_T.nonzero()[:, 0]
    view = View.of(TOKENS, hidden_T, kept_K=kept_K)
    expected = torch.arange(LENGTH) if kept_K is None else kept_K
    assert torch.equal(embedded(view)[view.gather_K], expected)
    assert torch.equal(view.layout_K.unit_T, TOKENS.layout.unit_T[expected])
    for name, (part, hidden_N) in zip(TOKENS.names, view.parts, strict=True):
        assert torch.equal(hidden_N, hidden_T[part.index_N])
        if TOKENS.tokenizers[name].rowwise:
            assert torch.equal(part.content_R, TOKENS.content[name][TOKENS.number_T[part.index_N]])
            if kept_K is not None:
                assert set(part.index_N.tolist()) == set(kept_K.tolist()) & set(TOKENS.index[name].tolist())
        else:  # its front end needs every row
            assert torch.equal(part.content_R, TOKENS.content[name])
            assert part.layout_N.runs == TOKENS.runs[name]


@settings(max_examples=50, deadline=None)
@given(bools, bools)
def test_places_that_are_read_lie_among_the_kept(hidden_T, keep_T):
    kept_K = keep_T.nonzero()[:, 0]
    view = View.of(TOKENS, hidden_T, kept_K=kept_K)
    there_N = view.place_N >= 0
    assert torch.equal(there_N, keep_T[view.read_N])
    assert torch.equal(kept_K[view.place_N[there_N]], view.read_N[there_N])
    assert view.readable == bool(there_N.all())
    assert torch.equal(view.answer_N, hidden_T.nonzero()[:, 0])
    assert torch.equal(view.read_N, view.answer_N)


def test_answers_are_sorted_under_their_modality():
    hidden_T = TOKENS.layout.maskable_T
    view = View.of(TOKENS, hidden_T)
    assert torch.equal(torch.cat(list(view.asked.values())).sort().values, torch.arange(len(view.answer_N)))
    for i, at_N in enumerate(view.asked.values()):
        assert (TOKENS.layout.modality_T[view.answer_N[at_N]] == i).all()


def test_reading_before_the_answer():
    """Causal prediction: read one place earlier than one answers."""
    answer_N = (TOKENS.layout.place_T > 0).nonzero()[:, 0]
    view = View.of(TOKENS, torch.zeros(LENGTH, dtype=torch.bool), answer_N=answer_N, read_N=answer_N - 1)
    assert torch.equal(view.place_N, answer_N - 1)
    assert view.readable
    names = {n: int((TOKENS.layout.modality_T[answer_N] == i).sum()) for i, n in enumerate(TOKENS.names)}
    assert {n: len(a) for n, a in view.asked.items()} == names


def test_asked_follows_the_clean_tokens_where_they_differ():
    clean = TOKENS.segment(TOKENS.layout.segments - 1)
    view = View.of(
        TOKENS, torch.zeros(LENGTH, dtype=torch.bool), clean=clean, answer_N=torch.tensor([0]), read_N=torch.tensor([5])
    )
    assert len(view.asked[TOKENS.names[int(clean.layout.modality_T[0])]]) == 1


def test_moving_a_view():
    view = View.of(TOKENS, TOKENS.layout.maskable_T, kept_K=(~TOKENS.layout.maskable_T).nonzero()[:, 0])
    moved = view.to("cpu")
    assert torch.equal(moved.gather_K, view.gather_K)
    assert moved.readable == view.readable
    assert all(torch.equal(a[1], b[1]) for a, b in zip(moved.parts, view.parts, strict=True))
