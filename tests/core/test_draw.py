"""Keyed randomness: frozen numbers, uniform ones, and none that a batch mate can change."""

import pickle

import pytest
import torch

from mmm.core.draw import Draw, hash64
from mmm.testing import batch, toy_raws, toys

GOLDEN = {
    "bits": -2152535657050944081,
    "stream": [5489104547434801760, -3053038921023340999, -2072264712959281209],
    "uniform": [0.0, 0.5560392737388611, 0.935904324054718],
    "integers": [0, 556, 935, 124, 781],
    "seed": 313127899,
    "token": [8074068562943692001, -6659809415845563322, 4000673731275799894],
    "segment": [0.26647698879241943, 0.6884621977806091],
    "hash": 6888524485214824035,
}


def test_numbers_are_frozen():
    """Bit for bit: a change here changes every mask ever drawn."""
    draw = Draw(0)
    assert draw.bits().tolist() == GOLDEN["bits"]
    assert draw.stream("mask").at(3, -1).bits(torch.arange(3)).tolist() == GOLDEN["stream"]
    assert draw.uniform(torch.arange(3)).tolist() == GOLDEN["uniform"]
    assert draw.integers(1000, torch.arange(5)).tolist() == GOLDEN["integers"]
    assert Draw(-(2**63)).seed() == GOLDEN["seed"]
    layout = batch(toys(), toy_raws(2)).layout
    assert draw.bits_per_token(layout)[:3].tolist() == GOLDEN["token"]
    assert draw.per_segment(layout, 1).tolist() == GOLDEN["segment"]
    assert hash64(b"a record") == GOLDEN["hash"]


def test_mixing_is_splitmix64():
    """The published finaliser, in unbounded integers."""

    def mix(x: int) -> int:
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) % 2**64
        return x ^ (x >> 31)

    def fold(key: int, index: int) -> int:
        return mix(key ^ mix((index + 0x9E3779B97F4A7C15) % 2**64))

    for seed, index in ((0, 0), (1, 7), (-5, -9), (2**63 - 1, 2**40), (-(2**63), -1)):
        key = fold(mix((seed + 0x9E3779B97F4A7C15) % 2**64), index % 2**64)
        assert int(Draw(seed).bits(index)) % 2**64 == key


def test_uniform_is_uniform_and_integers_reach_every_value():
    draw = Draw(1)
    u = draw.uniform(torch.arange(100_000))
    assert float(u.min()) >= 0
    assert float(u.max()) < 1
    for values, cells in (((u * 50).long(), 50), (draw.integers(50, torch.arange(100_000), 1), 50)):
        count = torch.bincount(values, minlength=cells).double()
        chi2 = float(((count - 2000) ** 2 / 2000).sum())
        assert 20 < chi2 < 90  # 49 degrees of freedom: 99.9 % lies in 23..86; frozen numbers, so no flicker


@pytest.mark.parametrize("pair", ["streams", "indices", "seeds", "neighbours"])
def test_streams_are_independent(pair):
    index = torch.arange(20_000)
    a = Draw(0).stream("a").uniform(index)
    b = {
        "streams": Draw(0).stream("b").uniform(index),
        "indices": Draw(0).stream("a").uniform(index, 1),
        "seeds": Draw(1).stream("a").uniform(index),
        "neighbours": a.roll(1),
    }[pair]
    assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 0.025


def test_a_child_never_depends_on_what_was_drawn():
    draw = Draw(3)
    first = draw.stream("crop").uniform(5)
    draw.uniform(torch.arange(100))
    draw.stream("other").seed()
    assert torch.equal(draw.stream("crop").uniform(5), first)


def test_tokens_and_segments_are_keyed_by_record_not_by_batch():
    raws = toy_raws()
    modalities = toys()
    tokens = batch(modalities, raws)
    draw = Draw(4)
    all_T, all_S = draw.per_token(tokens.layout, 2), draw.per_segment(tokens.layout)
    for s in range(len(raws)):
        one = tokens.segment(s).layout
        assert torch.equal(draw.per_token(one, 2), all_T[tokens.layout.segment_T == s])
        assert torch.equal(draw.per_segment(one), all_S[s : s + 1])
    assert len(set(all_S.tolist())) == len(raws)


def test_a_draw_knows_whether_it_was_asked():
    """For itself, or for a stream or a key under it; not for what lies beside it."""
    draw = Draw(5).stream("tokenize")
    record = draw.at(3, 0)
    assert not record.asked
    pickle.loads(pickle.dumps(record)).uniform(1)
    draw.at(3, 1).seed()
    assert not record.asked
    crop = record.stream("crop")
    assert not record.asked
    crop.integers(7)
    assert crop.asked
    assert record.asked
