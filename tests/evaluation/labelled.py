"""Datasets of labelled records, for tests of measures."""

from mmm.evaluation.dataset import Dataset, Example


def examples(records, labels, tests=None):
    """A dataset of single records."""
    tests = [None] * len(records) if tests is None else tests
    rows = zip(records, labels, tests, strict=True)
    return Dataset([Example((r,), f"{i}", label, test) for i, (r, label, test) in enumerate(rows)])
