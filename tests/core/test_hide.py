"""`hide` against a plain implementation, for every kind of layout."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmm.core.draw import Draw
from mmm.core.layout import Layout
from mmm.core.masking import hide
from mmm.core.tokens import Piece, Sample, Tokens, pack
from mmm.masking.uniform import Uniform
from mmm.testing import toys

NAMES = ("ids", "patches", "wave")


@st.composite
def pieces(draw, specials: str = "units"):
    """A piece of units of 1 to 4 tokens. specials: whole units are not maskable, or any ``tokens`` are not."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=8))
    units = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    if specials == "units":
        free = torch.tensor(draw(st.lists(st.booleans(), min_size=len(sizes), max_size=len(sizes))))[units]
    else:
        free = torch.tensor(draw(st.lists(st.booleans(), min_size=len(units), max_size=len(units))))
    return Piece(torch.zeros(len(units)), torch.arange(len(units)), units, free)


def batches(specials: str = "units"):
    record = st.dictionaries(st.sampled_from(NAMES), pieces(specials), max_size=3)
    return st.lists(record, max_size=5).map(_packed)


def _packed(records: list[dict[str, Piece]]) -> Tokens:
    return pack([Sample(r, i) for i, r in enumerate(records)], {n: m.tokenizer for n, m in toys().items()})


def reference(rank: list[float], layout: Layout, rate: list[float]) -> list[bool]:
    """One unit after the other, in Python's own numbers."""
    groups: dict = {}
    for t in range(len(layout)):
        group = groups.setdefault((int(layout.segment_T[t]), int(layout.modality_T[t])), {})
        group.setdefault(int(layout.unit_T[t]), []).append(t)
    hidden = [False] * len(layout)
    for (segment, _), units in groups.items():
        free = [unit for unit in units.values() if all(layout.maskable_T[t] for t in unit)]
        budget, count = round(rate[segment] * sum(map(len, free))), 0
        for unit in sorted(free, key=lambda unit: (rank[unit[0]], unit[0])):
            count += len(unit)
            if count > budget:
                break
            for t in unit:
                hidden[t] = True
    return hidden


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(["units", "tokens"]))
def test_hide_is_the_plain_implementation(data, specials):
    tokens = data.draw(batches(specials))
    ranks = st.lists(st.integers(0, 4).map(float), min_size=len(tokens), max_size=len(tokens))  # few values: many ties
    rank = data.draw(ranks)
    rate = data.draw(st.lists(st.floats(0, 1), min_size=tokens.layout.segments, max_size=tokens.layout.segments))
    hidden_T = hide(torch.tensor(rank), tokens.layout, torch.tensor(rate, dtype=torch.float64))
    assert hidden_T.tolist() == reference(rank, tokens.layout, rate)


@settings(max_examples=100, deadline=None)
@given(batches(), st.floats(0, 1), st.randoms(use_true_random=False))
def test_a_segment_is_hidden_the_same_wherever_it_stands(tokens, rate, random):
    layout = tokens.layout
    order = list(range(layout.segments))
    random.shuffle(order)
    rank_T = Draw(1).per_token(layout)
    rate_S = torch.full((layout.segments,), rate, dtype=torch.float64)
    hidden_T = hide(rank_T, layout, rate_S)
    for s in order:
        own_T = layout.segment_T == s
        assert torch.equal(hidden_T[own_T], hide(rank_T[own_T], layout.cut(s), rate_S[s : s + 1]))


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(["units", "tokens"]), st.floats(0, 1))
def test_the_count_lies_in_the_declared_bounds(data, specials, rate):
    """Also where a unit is maskable only in part: such a unit is never hidden, nor does it count."""
    tokens = data.draw(batches(specials))
    masking, draw = Uniform(rate), Draw(2)
    hidden_T = masking.hidden(tokens, 0, draw)
    low_SM, high_SM = masking.expected(tokens, 0, draw)
    layout = tokens.layout
    count = torch.bincount((layout.segment_T * 3 + layout.modality_T)[hidden_T], minlength=low_SM.numel()).view(low_SM.shape)
    assert (low_SM <= count).all()
    assert (count <= high_SM).all()


def test_the_count_is_exact_where_units_are_single_tokens():
    tokens = _packed([{"wave": Piece(torch.zeros(n), torch.arange(n))} for n in range(1, 60)])
    for rate in (0.0, 0.15, 0.5, 0.75, 1.0):
        hidden_T = Uniform(rate).hidden(tokens, 0, Draw(0))
        assert torch.bincount(tokens.layout.segment_T[hidden_T], minlength=59).tolist() == [
            round(rate * n) for n in range(1, 60)
        ]


def test_every_token_is_hidden_equally_often():
    tokens = _packed([{"wave": Piece(torch.zeros(8), torch.arange(8))}])
    hits = sum(Uniform(0.25).hidden(tokens, 0, Draw(seed)).double() for seed in range(2000))
    assert (abs(hits - 500) < 80).all()  # 4 standard deviations of binomial(2000, 1/4)
