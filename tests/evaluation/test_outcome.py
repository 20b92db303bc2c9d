"""Values, intervals and metrics against the libraries and against brute force."""

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from mmm.evaluation.metrics import METRICS, answers
from mmm.evaluation.outcome import Answers, mean_and_interval

REFERENCES = {
    "accuracy": sklearn.metrics.accuracy_score,
    "F1": sklearn.metrics.f1_score,
    "macro F1": lambda t, a: sklearn.metrics.f1_score(t, a, average="macro"),
    "Matthews": sklearn.metrics.matthews_corrcoef,
    "Spearman": lambda t, a: scipy.stats.spearmanr(t, a).statistic,
    "Pearson": lambda t, a: scipy.stats.pearsonr(t, a).statistic,
    "R2": sklearn.metrics.r2_score,
}


def predictions(name, random, n=80):
    if name in ("Spearman", "Pearson", "R2"):
        truth = random.integers(0, 12, n) / 3  # with ties
        return truth, np.round(truth + random.normal(size=n), 1)
    classes = 2 if name == "F1" else 4
    truth = random.integers(0, classes, n)
    return truth, np.where(random.random(n) < 0.6, truth, random.integers(0, classes, n))


def test_every_metric_has_a_reference():
    assert METRICS.keys() == REFERENCES.keys()


@pytest.mark.parametrize("name", METRICS)
def test_metrics_are_those_of_the_libraries(name):
    random = np.random.default_rng(0)
    for _ in range(5):
        truth, answer = predictions(name, random)
        times = random.multinomial(len(truth), np.full(len(truth), 1 / len(truth)))
        judged = answers(name, ["k"] * len(truth), truth, answer)
        assert judged.value == pytest.approx(REFERENCES[name](truth, answer), abs=1e-5)  # torchmetrics adds 1e-6 somewhere
        again = REFERENCES[name](truth.repeat(times), answer.repeat(times))
        assert judged.weighted(times) == pytest.approx(again, abs=1e-12)


def test_macro_f1_of_several_labels_is_that_of_the_library():
    random = np.random.default_rng(1)
    truth, answer = random.integers(0, 2, (60, 5)), random.integers(0, 2, (60, 5))
    times = random.multinomial(60, np.full(60, 1 / 60))
    judged = answers("macro F1", ["k"] * 60, truth, answer)
    assert judged.value == pytest.approx(sklearn.metrics.f1_score(truth, answer, average="macro"))
    again = sklearn.metrics.f1_score(truth.repeat(times, 0), answer.repeat(times, 0), average="macro", zero_division=0)
    assert judged.weighted(times) == pytest.approx(again)


@pytest.mark.parametrize("name", ["Spearman", "Pearson"])
def test_a_constant_orders_nothing(name):
    judged = answers(name, ["k"] * 5, np.arange(5.0), np.ones(5))
    assert judged.value == judged.weighted(np.ones(5, dtype=int)) == 0.0


def test_the_interval_covers_the_truth_as_often_as_it_says():
    """Of 60 coins of 0.7, thrown 150 times each, 99 % of the intervals hold 0.7; nine tenths at the least."""
    random = np.random.default_rng(2)
    covered = 0
    for _ in range(60):
        heads = random.random(150) < 0.7
        value, low, high, n = mean_and_interval([Answers.of_sums([str(i) for i in range(150)], heads, np.ones(150))])
        assert value == heads.mean()
        assert n == 150
        covered += low <= 0.7 <= high
    assert covered >= 54


def test_seeds_do_not_make_a_test_set_larger():
    random = np.random.default_rng(3)
    right = random.random(200) < 0.5
    one = Answers.of_sums([str(i) for i in range(200)], right, np.ones(200))
    alone, thrice = mean_and_interval([one]), mean_and_interval([one] * 3)
    assert alone == pytest.approx(thrice)


def test_records_are_resampled_not_their_tokens():
    """Ten proteins of 100 residues, each all right or all wrong, are ten trials."""
    value, low, high, n = mean_and_interval([Answers.of_sums([str(i) for i in range(10)], [100, 0] * 5, [100] * 10)])
    assert (value, n) == (0.5, 10)
    assert low <= 0.15
    assert high >= 0.85


def test_a_resampling_without_a_seeds_records_says_nothing():
    """Few records of a seed are left out of some resamplings; what is left is always right."""
    numbers = np.array([0.0, 1.0, 1.0, 2.0])
    seeds = [answers("Spearman", [f"{s}/{i}" for i in range(4)], numbers, numbers) for s in range(3)]
    lonely = Answers(["lonely"], 1.0, lambda weight_N: 1.0 if weight_N.any() else pytest.fail("asked of no record"))
    value, low, high, n = mean_and_interval([*seeds, lonely])
    assert (value, high, n) == (pytest.approx(1.0), pytest.approx(1.0), 13)
    assert 0 <= low <= 1


def test_records_that_one_seed_alone_tested_count_for_that_seed():
    first = Answers.of_sums(["a", "b"], [1, 1], [1, 1])
    second = Answers.of_sums(["b", "c"], [0, 0], [1, 1])
    value, _, _, n = mean_and_interval([first, second])
    assert (value, n) == (0.5, 3)
