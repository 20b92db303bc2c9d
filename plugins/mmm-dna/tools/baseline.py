"""What counts of k-mers tell of the records that fine-tuned models were judged by: ``python tools/baseline.py RUN [RUN ...]``.

The runs differ in their seeds alone. Their ``predictions.csv`` name the held-out rows of the table; the other rows are what the
baseline learns from, so the split is the same. Logistic regression on the counts of 6-mers, its penalty chosen by five-fold
cross-validation inside the training rows. Intervals hold 99 %, from 2000 resamplings of the held-out records.

Shape suffixes: S runs, R held-out records, B resamplings.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

RESAMPLINGS = 2000


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a table, by the names of its columns."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def counted(train: list[dict[str, str]], held: list[dict[str, str]], k: int) -> list[str]:
    """Labels that logistic regression on k-mer counts gives the held-out rows."""
    counts = CountVectorizer(analyzer="char", ngram_range=(k, k), lowercase=False)
    search = GridSearchCV(
        make_pipeline(counts, LogisticRegression(max_iter=2000)), {"logisticregression__C": [0.01, 0.1, 1.0, 10.0]}, cv=5
    )
    search.fit([row["record"] for row in train], [row["label"] for row in train])
    return list(search.predict([row["record"] for row in held]))


def main(words: list[str] | None = None) -> None:
    """Print the accuracy of each run, of the baseline, and their difference."""
    parser = argparse.ArgumentParser(description="Logistic regression on k-mer counts, on the split of fine-tuned runs.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of runs that differ in their seeds alone")
    parser.add_argument("--k", type=int, default=6, help="letters of a k-mer")
    args = parser.parse_args(words)
    said = [rows_of(run / "predictions.csv") for run in args.runs]
    held = said[0]
    places = {(row["file"], row["row"]) for row in held}
    if any({(row["file"], row["row"]) for row in rows} != places for rows in said):
        parser.exit(1, "these runs were judged by different records\n")
    tables = sorted({row["file"] for row in held})
    train = [r for t in tables for n, r in enumerate(rows_of(Path(t)), 1) if (t, str(n)) not in places]
    truth_R = np.array([row["label"] for row in held])
    right_SR = np.stack([np.array([row["prediction"] for row in rows]) == truth_R for rows in said]).astype(float)
    base_R = (np.array(counted(train, held, args.k)) == truth_R).astype(float)
    numbers = np.random.default_rng(0)
    drawn_BR = numbers.integers(len(truth_R), size=(RESAMPLINGS, len(truth_R)))

    def line(name: str, value_R: np.ndarray) -> None:
        low, high = np.quantile(value_R[drawn_BR].mean(1), [0.005, 0.995])
        print(f"{name:32} {value_R.mean():+.3f}  [{low:+.3f}, {high:+.3f}]")

    print(f"accuracy on {len(held)} held-out records, {len(train)} to learn from; 99 % intervals")
    for run, right_R in zip(args.runs, right_SR, strict=True):
        line(run.name, right_R)
    line(f"mean of {len(said)} runs", right_SR.mean(0))
    line(f"logistic regression, {args.k}-mers", base_R)
    line("runs less the baseline", right_SR.mean(0) - base_R)


if __name__ == "__main__":
    main()
