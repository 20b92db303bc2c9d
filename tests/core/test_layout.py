"""Where tokens stand."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmm.testing import batch, toy_raws, toys

TOKENS = batch(toys(), toy_raws())
FIELDS = ("modality_T", "position_TC", "segment_T", "unit_T", "maskable_T")
NAMES = ("sample_S", "epoch_S", "part_S", "group_S")


def test_places_count_from_each_start():
    layout = TOKENS.layout
    assert layout.start_S.tolist() == [sum(layout.lengths[:s]) for s in range(layout.segments)]
    assert layout.place_T.tolist() == [i for n in layout.lengths for i in range(n)]


@settings(max_examples=50, deadline=None)
@given(st.sets(st.integers(0, len(TOKENS) - 1)).map(sorted))
def test_select_is_indexing_and_keeps_segment_numbers(index):
    index_K = torch.tensor(index, dtype=torch.int64)
    chosen = TOKENS.layout.select(index_K)
    for name in FIELDS:
        assert torch.equal(getattr(chosen, name), getattr(TOKENS.layout, name)[index_K])
    for name in NAMES:
        assert torch.equal(getattr(chosen, name), getattr(TOKENS.layout, name))
    assert chosen.segments == TOKENS.layout.segments
    assert sum(chosen.lengths) == len(index)
    assert chosen.place_T.tolist() == [i for n in chosen.lengths for i in range(n)]
    assert chosen.runs == ()


def test_cut_is_one_segment_from_zero():
    for s in range(TOKENS.layout.segments):
        own_T, cut = TOKENS.layout.segment_T == s, TOKENS.layout.cut(s)
        assert cut.lengths == (TOKENS.layout.lengths[s],)
        assert not cut.segment_T.any()
        for name in ("modality_T", "position_TC", "unit_T", "maskable_T"):
            assert torch.equal(getattr(cut, name), getattr(TOKENS.layout, name)[own_T])
        for name in NAMES:
            assert getattr(cut, name).tolist() == [int(getattr(TOKENS.layout, name)[s])]
