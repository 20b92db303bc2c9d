"""What counts of words say of the texts that fine-tuned runs were judged by: ``python tools/baseline.py RUN [RUN ...]``.

The runs (``Classify``) differ in their seeds alone. Their ``predictions.csv`` name the held-out rows; all other rows of the
table (or of ``--train``) train a logistic regression of TF-IDF counts, its strength chosen by cross-validation among them,
and say which class is the commonest. Accuracy, with 99 % intervals from 1000 resamplings of the held-out records.

Shape suffixes: R held-out records, B resamplings.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline

RESAMPLINGS, TAIL = 1000, 0.005
BASELINES = {
    "TF-IDF, logistic regression": lambda: make_pipeline(
        TfidfVectorizer(),
        LogisticRegressionCV(Cs=6, max_iter=2000, scoring="accuracy", l1_ratios=(0.0,), use_legacy_attributes=False),
    ),
    "the commonest class": lambda: DummyClassifier(strategy="most_frequent"),
}


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a table, by the names of its columns."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def tell(right: dict[str, np.ndarray], runs: list[str]) -> None:
    """Print the accuracy of all, and by how much the mean of the runs is ahead of each baseline.

    Args:
        right: right_R of each. runs: which of them are runs.
    """
    records = len(right[runs[0]])
    drawn_BR = np.random.default_rng(0).integers(records, size=(RESAMPLINGS, records))
    drawn_BR = np.concatenate([np.arange(records)[None], drawn_BR])  # first the records as they are
    value = {name: right_R[drawn_BR].mean(1) for name, right_R in right.items()}
    mean = f"mean of {len(runs)} runs"
    value[mean] = np.mean([value[name] for name in runs], axis=0)
    others = [name for name in right if name not in runs]
    value |= {f"runs less {name}": value[mean] - value[name] for name in others}
    for name in (*runs, mean, *others, *(f"runs less {name}" for name in others)):
        low, high = np.quantile(value[name][1:], [TAIL, 1 - TAIL])
        print(f"accuracy  {name:40} {value[name][0]:+.3f}  [{low:+.3f}, {high:+.3f}]")


def main(words: list[str] | None = None) -> None:
    """Print the accuracy of each run, of the baselines, and their differences."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of runs that differ in their seeds alone")
    parser.add_argument("--train", type=Path, help="the training table, where it is not the one of the held-out rows")
    args = parser.parse_args(words)
    said = [rows_of(run / "predictions.csv") for run in args.runs]
    held = [{(row["file"], row["row"]): row for row in rows} for rows in said]
    places = sorted(held[0])
    if any(sorted(of_one) != places for of_one in held):
        parser.exit(1, "these runs were judged by different records\n")
    tables = [str(args.train)] if args.train else sorted({file for file, _ in places})
    train = [r for t in tables for n, r in enumerate(rows_of(Path(t)), 1) if (t, str(n)) not in held[0]]
    texts, labels = [row["record"] for row in train], [row["label"] for row in train]
    truth_R = np.array([held[0][place]["label"] for place in places])
    runs = [run.name for run in args.runs]
    right = {
        name: np.array([of_one[place]["prediction"] for place in places]) == truth_R
        for name, of_one in zip(runs, held, strict=True)
    }
    asked = [held[0][place]["record"] for place in places]
    right |= {name: make().fit(texts, labels).predict(asked) == truth_R for name, make in BASELINES.items()}
    print(f"{len(places)} held-out records, {len(train)} to learn from; 99 % intervals")
    tell(right, runs)


if __name__ == "__main__":
    main()
