"""Probes of whole records on features whose answer is known."""

import numpy as np
import pytest
import torch
from labelled import examples

from mmm.evaluation.features import Frozen, batches
from mmm.evaluation.measures import knn, linear_probe

SEEDS = (0, 1, 2)


class Given:
    """Features that are the records themselves."""

    def __init__(self):
        self.asked = 0
        self.cut = 0

    def vectors(self, records, keys, pool, layer):
        self.asked += 1
        return np.stack(records).astype(np.float32)


def separable(classes=3, n=300, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, n)
    return random.normal(size=(n, 8)) * 0.1 + np.eye(8)[labels], labels


@pytest.mark.parametrize("measure", [linear_probe.measure, knn.measure])
def test_what_can_be_told_is_told(measure):
    records, labels = separable()
    outcome = measure(Given(), examples(list(records), labels), SEEDS)
    assert outcome.value == outcome.low == outcome.high == 1.0
    assert (outcome.metric, outcome.guess) == ("accuracy", "majority class")
    assert list(outcome.by_seed) == [0, 1, 2]
    assert 0.2 < outcome.baseline < 0.55


@pytest.mark.parametrize("measure", [linear_probe.measure, knn.measure])
def test_random_labels_stay_at_chance(measure):
    random = np.random.default_rng(1)
    data = examples(list(random.normal(size=(800, 4))), random.integers(0, 2, 800), [i % 2 == 0 for i in range(800)])
    outcome = measure(Given(), data, SEEDS)
    assert outcome.n == 400
    assert outcome.low < 0.5 < outcome.high
    assert 0.1 < outcome.high - outcome.low < 0.2  # 2 x 2.58 x sqrt(0.25 / 400) = 0.13


@pytest.mark.parametrize("measure", [linear_probe.measure, knn.measure])
def test_several_labels_a_record(measure):
    random = np.random.default_rng(2)
    there = random.integers(0, 2, (300, 3))
    labels = ["|".join(np.array(["a", "b", "c"])[row == 1]) or "none" for row in there]
    outcome = measure(Given(), examples(list(there + random.normal(size=there.shape) * 0.05), labels), SEEDS, task="labels")
    assert outcome.metric == "macro F1"
    assert outcome.value > 0.8 > 0.5 > outcome.baseline


@pytest.mark.parametrize(("measure", "least"), [(linear_probe.measure, 0.99), (knn.measure, 0.7)])
def test_numbers_are_ordered(measure, least):
    random = np.random.default_rng(3)
    records = random.normal(size=(300, 4))
    outcome = measure(Given(), examples(list(records), records @ [1.0, -2.0, 0.5, 0.0] * 10 + 3), SEEDS, task="number")
    assert (outcome.metric, outcome.guess) == ("Spearman", "mean")
    assert outcome.baseline == 0.0
    assert outcome.value > least


def test_the_probe_learns_from_test_records_of_no_seed():
    """Labels that are random in training and told in the test set cannot be learned."""
    random = np.random.default_rng(4)
    records, labels = separable(2, 400)
    tests = [i < 200 for i in range(400)]
    labels[200:] = random.integers(0, 2, 200)
    assert linear_probe.measure(Given(), examples(list(records), labels, tests), (0,)).value < 0.8


def test_a_subsample_of_training_records_changes_with_the_seed_and_not_with_their_order():
    records, labels = separable()
    data = examples(list(records), labels, [i % 3 == 0 for i in range(300)])
    chosen = [[e.key for e in data.split(seed, train=20)[0]] for seed in SEEDS]
    assert all(len(keys) == 20 for keys in chosen)
    assert len({tuple(keys) for keys in chosen}) == 3
    turned = type(data)(list(reversed(data.examples)))
    assert {e.key for e in turned.split(0, train=20)[0]} == set(chosen[0])
    assert [e.key for e in data.split(0, test=10)[1]] == [e.key for e in data.split(1, test=10)[1]]


def test_equal_records_fall_on_one_side():
    from mmm.evaluation.dataset import Dataset, Example

    data = Dataset([Example((i,), f"{i % 50}", i) for i in range(200)])
    for seed in SEEDS:
        train, test = data.split(seed)
        assert not {e.key for e in train} & {e.key for e in test}
        assert len(train) + len(test) == 200


@pytest.mark.parametrize("label", ["same", "0"])
def test_one_label_alone_teaches_nothing(label):
    with pytest.raises(ValueError, match=f"have the label '{label}'"):
        linear_probe.measure(Given(), examples(list(np.eye(40)), [label] * 40), SEEDS)


def test_a_label_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="'high' of '1' is no number"):
        linear_probe.measure(Given(), examples(list(np.eye(40)), ["1.5", "high"] * 20), SEEDS, task="number")


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match=r"no metric 'acc'.*accuracy"):
        knn.measure(Given(), examples(*map(list, separable())), SEEDS, metric="acc")


def test_vectors_are_means_without_specials_and_firsts(frozen):
    texts = ["the mask is hidden", "a", "shared encoder of the row", "of a row"]
    asked = frozen("text")
    mean, first = (asked.vectors(texts, texts, pool) for pool in ("mean", "first"))
    with torch.no_grad():
        hidden = asked.model.hidden(texts, "text")
    for n, x_ND in enumerate(hidden):
        assert np.allclose(mean[n], x_ND[1:-1].mean(0), atol=1e-5)
        assert np.allclose(first[n], x_ND[0], atol=1e-5)
    for n, x_ND in enumerate(asked.tokens(texts)):
        assert np.allclose(x_ND, hidden[n][1:-1], atol=1e-5)


def test_features_are_worked_out_once(frozen, monkeypatch):
    asked = frozen("text")
    encode, calls = asked.model.model.encode, []
    monkeypatch.setattr(asked.model.model, "encode", lambda *a: calls.append(1) or encode(*a))
    first = asked.vectors(["a", "the row"], ["0", "1"])
    again = asked.vectors(["the row", "a"], ["1", "0"], "mean")
    assert len(calls) == 1
    assert np.array_equal(first, again[::-1])
    asked.vectors(["a"], ["0"], layer=0)
    assert len(calls) == 2


def test_a_layer_that_is_not_there(frozen):
    with pytest.raises(ValueError, match="layer 7: the encoder has 1 blocks"):
        frozen("text").vectors(["a"], ["a"], layer=7)


def test_longer_records_are_counted(frozen):
    asked = frozen("protein")
    asked.vectors(["M" * 60, "MK"], ["0", "1"])
    assert asked.cut == 1
    later = Frozen(asked.model, "protein", asked.cache)
    later.vectors(["MK"], ["1"])
    assert later.cut == 0
    later.vectors(["M" * 60, "MK"], ["0", "1"])
    assert later.cut == 1


def test_a_modality_that_is_not_there(model):
    with pytest.raises(ValueError, match=r"no modality 'texts'. Did you mean 'text'"):
        Frozen(model, "texts")
    with pytest.raises(ValueError, match="say which one is meant by --modality"):
        Frozen(model, None)


def test_batches_keep_to_the_budget_and_lose_nothing():
    class Long(list):
        pass

    pieces = [(i, Long(range(1 + i * 7 % 50))) for i in range(3000)]
    made = list(batches(iter(pieces), 100))
    assert sorted(n for batch in made for n, _ in batch) == list(range(3000))
    assert all(sum(len(p) for _, p in batch) <= 100 for batch in made)
    assert [len(b) for b in batches([(0, Long(range(500)))], 100)] == [1]
