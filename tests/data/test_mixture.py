"""The keyed order: every record once an epoch, shares by tokens, resumable by a cursor, the same for every process."""

from collections import Counter, defaultdict
from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmm.core.modality import Record
from mmm.data.mixture import Item, Mixture, Plan, Source, deal, sample_of

BUDGET = 40


def source(name: str, lengths: list[int], weight: float = 1.0) -> Source:
    examples = [{"text": Record("memory", i, None, f"{name} {i}".encode())} for i in range(len(lengths))]
    return Source(name, weight, examples, lengths)


def shuffled(old: Source, order: list[int]) -> Source:
    """The same records, listed in another order."""
    return Source(old.name, old.weight, [old.examples[i] for i in order], [old.lengths[i] for i in order])


def steps(mixture: Mixture, number: int, cursor: dict[str, int] | None = None) -> list[Plan]:
    return list(islice(mixture.batches(cursor), number))


def records(mixture: Mixture, plans: list[Plan]) -> list[tuple[str, bytes, int]]:
    """(source, key, epoch) of every place of the order."""
    sources = mixture.sources
    return [
        (sources[i.source].name, sources[i.source].examples[i.index]["text"].key, i.epoch) for plan in plans for i in plan.items
    ]


lengths = st.lists(st.integers(1, BUDGET), min_size=1, max_size=12)
sources = st.lists(st.tuples(lengths, st.sampled_from([0.1, 1.0, 2.5])), min_size=1, max_size=3).map(
    lambda given: [source(f"s{i}", lengths, weight) for i, (lengths, weight) in enumerate(given)]
)


@settings(deadline=None, max_examples=60)
@given(sources, st.integers(0, 2**40))
def test_every_record_comes_exactly_once_an_epoch(made, seed):
    mixture = Mixture(made, BUDGET, seed)
    seen = defaultdict(list)
    for name, key, epoch in records(mixture, steps(mixture, 60)):
        seen[name].append((epoch, key))
    for one in made:
        order = seen[one.name]
        epochs = [epoch for epoch, _ in order]
        assert epochs == sorted(epochs)
        everything = {r["text"].key for r in one.examples}
        for epoch in range(epochs[-1] if epochs else 0):  # the last one seen may be unfinished
            assert Counter(k for e, k in order if e == epoch) == Counter(everything)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, BUDGET), min_size=2, max_size=12), st.integers(0, 99), st.data())
def test_the_order_does_not_hang_on_how_records_are_listed(lengths, seed, data):
    one = source("a", lengths)
    other = shuffled(one, data.draw(st.permutations(range(len(lengths)))))
    listed, relisted = Mixture([one], BUDGET, seed), Mixture([other], BUDGET, seed)
    assert records(listed, steps(listed, 20)) == records(relisted, steps(relisted, 20))


def test_epochs_and_seeds_have_orders_of_their_own():
    one = source("a", [1] * 50)
    orders = {}
    for seed in (0, 1):
        plans = steps(Mixture([one], 50, seed), 3)
        orders |= {(seed, epoch): tuple(i.index for i in plan.items) for epoch, plan in enumerate(plans)}
    assert len(set(orders.values())) == 6
    assert all(sorted(order) == list(range(50)) for order in orders.values())


@settings(deadline=None, max_examples=60)
@given(sources, st.integers(0, 9))
def test_no_batch_exceeds_its_tokens_and_none_has_room_for_the_next_record(made, seed):
    plans = steps(Mixture(made, BUDGET, seed), 40)
    for plan, after in pairwise(plans):
        total = sum(i.length for i in plan.items)
        assert 0 < total <= BUDGET
        assert total + after.items[0].length > BUDGET
        assert all(i.length == made[i.source].lengths[i.index] for i in plan.items)


@settings(deadline=None, max_examples=60)
@given(sources, st.integers(0, 9), st.integers(1, 60))
def test_token_shares_follow_the_weights(made, seed, number):
    """No source is ahead of its share by more than a record, so none is behind by more than a record of every other."""
    tokens = Counter()
    for plan in steps(Mixture(made, BUDGET, seed), number):
        for item in plan.items:
            tokens[item.source] += item.length
    total, weights = sum(tokens.values()), sum(s.weight for s in made)
    longest = max(max(s.lengths) for s in made)
    for i, one in enumerate(made):
        ahead = tokens[i] - total * one.weight / weights
        assert -longest * (len(made) - 1) - 1e-6 <= ahead <= longest + 1e-6


@settings(deadline=None, max_examples=40)
@given(sources, st.integers(0, 9), st.integers(0, 15))
def test_a_cursor_goes_on_where_the_order_stood(made, seed, stop):
    whole = steps(Mixture(made, BUDGET, seed), stop + 15)
    cursor = whole[stop].cursor
    assert steps(Mixture(made, BUDGET, seed), 14, cursor) == whole[stop + 1 :]
    taken = Counter(i.source for plan in whole[: stop + 1] for i in plan.items)
    assert {s.name: cursor[s.name] for s in made} == {s.name: taken[i] for i, s in enumerate(made)}


@settings(deadline=None, max_examples=40)
@given(sources, st.integers(0, 9), st.integers(1, 4), st.sampled_from([None, BUDGET, 2 * BUDGET]))
def test_every_number_of_processes_takes_the_same_records(made, seed, processes, most):
    for plan in steps(Mixture(made, BUDGET, seed), 5):
        dealt = [i for share in deal(plan.items, processes, most) for micro in share for i in micro]
        assert Counter(dealt) == Counter(plan.items)


items = st.lists(st.integers(1, 30), max_size=25).map(lambda lengths: tuple(Item(0, i, 0, n) for i, n in enumerate(lengths)))


@settings(deadline=None, max_examples=200)
@given(items, st.integers(1, 5), st.none() | st.integers(30, 70))
def test_dealing(items, processes, most):
    dealt = deal(items, processes, most)
    assert dealt == deal(items, processes, most)
    bins = [micro for share in dealt for micro in share]
    assert sorted((i for b in bins for i in b), key=lambda i: i.index) == list(items)
    assert len(dealt) == processes
    assert len({len(share) for share in dealt}) == 1, "every process has equally many micro-batches"
    assert all([i.index for i in b] == sorted(i.index for i in b) for b in bins), "each in the batch's order"
    loads = [sum(i.length for i in b) for b in bins]
    longest = max((i.length for i in items), default=0)
    assert max(loads) - min(loads) <= longest, "no place is fuller than another by more than a record"
    if most is None:
        assert len(bins) == processes
    else:
        assert max(loads) <= most
        needed = sum(loads) / most / processes
        assert len(dealt[0]) <= 2 * needed + 1, "not many more micro-batches than are needed"


def test_dealing_nothing_gives_everyone_an_empty_batch():
    assert deal((), 3) == [[[]], [[]], [[]]]


def test_a_record_longer_than_a_forward_pass_is_named():
    with pytest.raises(ValueError, match="31 tokens does not fit max_tokens_per_rank 30"):
        deal((Item(0, 0, 0, 31),), 2, 30)


def test_a_record_longer_than_a_batch_is_named():
    with pytest.raises(ValueError, match=r"data 'corpus': a record of 41 tokens does not fit tokens_per_batch 40"):
        Mixture([source("corpus", [3, 41])], 40, 0)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_weight_that_gives_no_place_is_refused(weight):
    with pytest.raises(ValueError, match=r"data 'corpus': weight"):
        Mixture([source("corpus", [3], weight)], 40, 0)


def test_the_name_of_a_record_is_what_it_holds():
    record, same = Record("a.txt", 1, "x", b"x"), Record("b.txt", 7, "x", b"x")
    assert sample_of({"text": record}) == sample_of({"text": same})
    assert sample_of({"text": record}) != sample_of({"image": record})
    pair = {"text": record, "image": Record("c.png", None, None, b"y")}
    assert sample_of(pair) == sample_of(dict(reversed(pair.items())))
    assert sample_of(pair) != sample_of({"text": record})


def test_equal_records_are_both_visited():
    twice = Source("a", 1.0, [{"text": Record("f", i, "x", b"x")} for i in range(3)], [5, 5, 5])
    (plan, *_) = steps(Mixture([twice], 15, 0), 1)
    assert sorted(i.index for i in plan.items) == [0, 1, 2]
