"""Attention backends against one dense mask over the whole packed axis."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmm.core.rule import Causal, Window, compose
from mmm.core.tokens import Piece, Sample, pack
from mmm.nn.attention import _PADDED, Attention, _Group, _groups, _Products, _unshifted, attention, dense_attention
from mmm.testing import near, toys

TOKENIZERS = {"ids": toys()["ids"].tokenizer}
RULES = [None, Causal(), Window(0), Window(2), compose(Causal(), Window(3))]


def layout(lengths):
    """Segments in this very order, equal lengths neighbours or not, empty ones among them."""
    packed = pack([Sample({"ids": Piece(torch.zeros(n), torch.arange(n))}) for n in sorted(lengths)], TOKENIZERS).layout
    segment_T = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    return replace(packed, segment_T=segment_T, lengths=tuple(lengths))


def states(tokens: int, dtype=torch.float32):
    generator = torch.Generator().manual_seed(tokens)
    return [torch.randn(tokens, 2, 6, generator=generator).to(dtype).requires_grad_() for _ in range(3)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any), st.sampled_from(RULES))
def test_every_backend_is_the_dense_reference(lengths, rule):
    where = layout(lengths)
    q, k, v = states(len(where))
    ours, reference = attention(q, k, v, where, rule), dense_attention(q, k, v, where, rule)
    assert near(ours, reference)
    weight = torch.randn(ours.shape, generator=torch.Generator().manual_seed(0))
    for a, b in zip(
        torch.autograd.grad((ours * weight).sum(), (q, k, v)),
        torch.autograd.grad((reference * weight).sum(), (q, k, v)),
        strict=True,
    ):
        assert near(a, b)


@pytest.fixture(params=[False, True], ids=["vectors", "tiles"])
def tiles(request, monkeypatch):
    """Both kinds of CPU, whichever this is."""
    monkeypatch.setattr("mmm.nn.attention._tiles", lambda: request.param)
    return request.param


@pytest.mark.parametrize("rule", RULES)
def test_bfloat16_stays_within_its_rounding(rule, tiles):
    where = layout([5, 5, 0, 9, 1])
    q, k, v = states(len(where), torch.bfloat16)
    exact = dense_attention(q.float(), k.float(), v.float(), where, rule)
    ours = attention(q, k, v, where, rule)
    assert ours.dtype == torch.bfloat16
    assert near(ours.float(), exact, 0.02)
    with torch.inference_mode():
        assert near(attention(q, k, v, where, rule).float(), exact, 0.02)
    grads = torch.autograd.grad(ours.float().square().sum(), (q, k, v))
    references = torch.autograd.grad(exact.square().sum(), (q, k, v))
    assert all(near(a.float(), b.float(), 0.05) for a, b in zip(grads, references, strict=True))


@pytest.mark.parametrize("lengths", [(4, 4), (2, 4, 3), (1, 4)])
@pytest.mark.parametrize("cached", [2**19, 16, 48, 1])
def test_gradients_of_the_products(monkeypatch, cached, lengths):
    """All heads at once, one at a time, three at a time, and one that does not fit; with padding and without."""
    monkeypatch.setattr("mmm.nn.attention._CACHED", cached)
    q, k, v = (torch.randn(sum(lengths), 2, 3, dtype=torch.float64, requires_grad=True) for _ in range(3))
    group = _Group.of(lengths)
    assert (group.pad_Bn is None) == (lengths == (4, 4))
    assert torch.autograd.gradcheck(lambda *qkv: _Products.apply(*qkv, group), (q, k, v))
    kept = _Products.apply(q, k, v, group)
    assert near(kept, dense_attention(q, k, v, layout([*lengths])), 1e-12)
    assert near(_Products.apply(*(x.detach() for x in (q, k, v)), group), kept, 1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("factor", "fits"), [(0.0, True), (1.0, True), (-200.0, False), (200.0, False), (torch.nan, False)])
def test_scores_too_large_for_their_powers_are_shifted(dtype, factor, fits):
    """Large scores of either sign take the path with gradients; what is no number stays none."""
    torch.manual_seed(0)
    group = _Group.of((3, 7))
    q, k, v = (torch.randn(10, 2, 3, dtype=dtype).abs() for _ in range(3))
    q = q * factor
    plain = _unshifted(q, k, v, group)
    assert (plain is not None) == fits
    ours = _Products.apply(q, k, v, group)
    kept = _Products.apply(q, k, v.clone().requires_grad_(), group)
    assert ours.dtype == dtype
    assert torch.allclose(ours, kept, *((0, 1e-12) if dtype == torch.float64 else (0.02, 0.02)), equal_nan=True)
    if not fits:
        assert torch.equal(ours.nan_to_num(7.0), kept.nan_to_num(7.0))


@given(st.lists(st.integers(0, 90), min_size=1, max_size=30).filter(any), st.integers(1, 20))
def test_groups_are_neighbours_and_add_little(lengths, heads):
    groups = _groups(tuple(lengths), heads)
    assert [n for group in groups for n in group.lengths] == [n for n in lengths if n]
    for group in groups:
        padded = len(group.lengths) * group.longest**2 - sum(n * n for n in group.lengths)
        assert heads * padded <= _PADDED * (len(group.lengths) - 1)
        assert group.longest == max(group.lengths)


@pytest.mark.parametrize("up_to", [1024, 10])
def test_padding_changes_nothing(monkeypatch, up_to):
    """Ragged segments in one group, in the products and beyond their length, against the reference."""
    monkeypatch.setattr("mmm.nn.attention._PRODUCTS_UP_TO", up_to)
    where = layout([5, 17, 9, 0, 30])
    assert len(_groups(where.lengths, 2)) == 1
    q, k, v = states(len(where), torch.bfloat16)
    exact = dense_attention(q.float(), k.float(), v.float(), where, None)
    ours = attention(q, k, v, where)
    assert near(ours.float(), exact, 0.02)
    one = torch.cat(
        [attention(*(x[a : a + n] for x in (q, k, v)), layout([n])) for a, n in ((0, 5), (5, 17), (22, 9), (31, 30))]
    )
    assert near(ours.float(), one.float(), 0.01)
    grads = torch.autograd.grad(ours.float().square().sum(), (q, k, v))
    references = torch.autograd.grad(exact.square().sum(), (q, k, v))
    assert all(near(a.float(), b.float(), 0.05) for a, b in zip(grads, references, strict=True))


@pytest.mark.parametrize("up_to", [1024, 10])
def test_lengths_that_were_met_without_gradients_can_be_learned(monkeypatch, up_to, tiles):
    monkeypatch.setattr("mmm.nn.attention._PRODUCTS_UP_TO", up_to)
    _groups.cache_clear()
    where = layout([5, 17, 9, 30])
    q, k, v = states(len(where), torch.bfloat16)
    with torch.inference_mode(), torch.device("meta"):
        attention(q, k, v, where)
    grads = torch.autograd.grad(attention(q, k, v, where).float().sum(), (q, k, v))
    assert all(bool(grad.isfinite().all()) for grad in grads)


def test_answers_come_from_the_library_where_tiles_multiply(monkeypatch, tiles):
    """And learning, and whatever may yet be learned from, never does."""
    ways = []
    apply = _Products.apply
    monkeypatch.setattr(_Products, "apply", lambda *args: ways.append("products") or apply(*args))
    where = layout([3, 5])
    q, k, v = states(8, torch.bfloat16)
    with torch.no_grad():
        attention(q, k, v, where)
    attention(*(x.detach() for x in (q, k, v)), where)
    assert ways == ([] if tiles else ["products"] * 2)
    attention(q.detach(), k, v.detach(), where)
    assert ways == ["products"] * (1 if tiles else 3)


def test_no_token_is_attended_by_none():
    where = layout([0])
    q, k, v = states(0)
    assert attention(q, k, v, where).shape == (0, 2, 6)


def test_heads_divide_the_width():
    with pytest.raises(ValueError, match="width 10 is no multiple of heads 4"):
        Attention(10, 4)


def test_the_module_is_the_library_one():
    torch.manual_seed(0)
    ours, theirs = Attention(12, 3), torch.nn.MultiheadAttention(12, 3, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(ours.qkv.weight)
        theirs.in_proj_bias.copy_(ours.qkv.bias)
        theirs.out_proj.weight.copy_(ours.out.weight)
        theirs.out_proj.bias.copy_(ours.out.bias)
    where, x_TD = layout([4, 7]), torch.randn(11, 12)
    expected = torch.cat([theirs(x, x, x)[0] for x in x_TD.split([4, 7])])
    assert near(ours(x_TD, where), expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("lengths", [[5, 5, 9], [0, 7, 3, 3], [300]])
@pytest.mark.parametrize("rule", RULES)
def test_the_gpu_gives_what_the_cpu_gives(lengths, rule):
    where = layout(lengths)
    q, k, v = (torch.randn(len(where), 2, 16) for _ in range(3))
    exact = dense_attention(q, k, v, where, rule)
    for dtype, within in ((torch.float32, 1e-4), (torch.bfloat16, 0.02)):
        got = attention(q.cuda().to(dtype), k.cuda().to(dtype), v.cuda().to(dtype), where.to("cuda"), rule)
        assert near(got.float().cpu(), exact, within)
