"""What simple regressions say of the records that fine-tuned models were judged by: ``python tools/baseline.py RUN [RUN ...]``.

The runs differ in their seeds alone. Their ``predictions.csv`` name the held-out rows of the table; the other rows (or those of
``--train``) are what the baselines learn from, so the split is the same. Numbers: root mean squared error and Spearman's
correlation; two classes: area under the ROC curve, the rarer class as the positive one. Intervals hold 99 %, from 1000
resamplings of the held-out records.

Shape suffixes: R held-out records, B resamplings, N training records, F features.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy.stats import rankdata
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegressionCV, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

from mmm_smiles._atoms import split
from mmm_smiles.chemistry import has_rdkit

RESAMPLINGS = 1000
Metric = Callable[[np.ndarray, np.ndarray], np.ndarray]


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a table, by the names of its columns."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def atoms(train: list[str], held: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """How often each atom and sign stands in a string."""
    counts = CountVectorizer(tokenizer=split, token_pattern=None, lowercase=False)
    return counts.fit_transform(train).toarray(), counts.transform(held).toarray()


def morgan(train: list[str], held: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Counts of the circular fingerprint of radius 2, 2048 wide (Rogers & Hahn 2010, doi:10.1021/ci100050t)."""
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdFingerprintGenerator

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)

    def counts(smiles: str) -> np.ndarray:
        molecule = Chem.MolFromSmiles(smiles)
        return np.zeros(2048) if molecule is None else generator.GetCountFingerprintAsNumPy(molecule).astype(float)

    with rdBase.BlockLogs():
        return np.stack([counts(s) for s in train]), np.stack([counts(s) for s in held])


def baselines(train: list[str], label_N: np.ndarray, held: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """(name, answers on the held-out strings) of each: two kinds of features, if RDKit is there, and two models."""
    numbers = label_N.dtype.kind == "f"
    for name, features in (("atom counts", atoms), ("Morgan counts", morgan)):
        if features is morgan and not has_rdkit():
            print("Morgan counts: need RDKit: pip install mmm-smiles[rdkit]")
            return
        train_NF, held_NF = features(train, held)
        linear = (
            RidgeCV(np.logspace(-2, 4, 13))
            if numbers
            else LogisticRegressionCV(Cs=6, max_iter=2000, scoring="roc_auc", l1_ratios=(0.0,), use_legacy_attributes=False)
        )
        boosted = HistGradientBoostingRegressor(random_state=0) if numbers else HistGradientBoostingClassifier(random_state=0)
        for kind, model in (("linear", make_pipeline(MaxAbsScaler(), linear)), ("boosted trees", boosted)):
            model.fit(train_NF, label_N)
            yield f"{name}, {kind}", model.predict(held_NF) if numbers else model.predict_proba(held_NF)[:, 1]


def answers(rows: list[dict[str, str]], positive: str | None) -> np.ndarray:
    """What a run said: its numbers, or the probabilities of the positive class."""
    if positive is None:
        return np.array([float(row["prediction"]) for row in rows])
    return np.array([float(r["score"]) if r["prediction"] == positive else 1 - float(r["score"]) for r in rows])


def rmse(truth_BR: np.ndarray, said_BR: np.ndarray) -> np.ndarray:
    """Root mean squared error of each row."""
    return np.sqrt(((truth_BR - said_BR) ** 2).mean(1))


def spearman(truth_BR: np.ndarray, said_BR: np.ndarray) -> np.ndarray:
    """Rank correlation of each row; 0 where one side is all the same."""
    ranks = [rankdata(x, axis=1) for x in (truth_BR, said_BR)]
    t, s = (r - r.mean(1, keepdims=True) for r in ranks)
    spread_B = np.sqrt((t * t).sum(1) * (s * s).sum(1))
    return np.divide((t * s).sum(1), spread_B, out=np.zeros_like(spread_B), where=spread_B > 0)


def roc_auc(truth_BR: np.ndarray, said_BR: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each row, by ranks (Mann & Whitney 1947, doi:10.1214/aoms/1177730491)."""
    positives_B = truth_BR.sum(1)
    ranks_B = (rankdata(said_BR, axis=1) * truth_BR).sum(1)
    return (ranks_B - positives_B * (positives_B + 1) / 2) / (positives_B * (truth_BR.shape[1] - positives_B))


def tell(metric: str, of: Metric, truth_R: np.ndarray, runs: dict[str, np.ndarray], others: dict[str, np.ndarray]) -> None:
    """Print one metric of all, and of the mean over the runs less each baseline."""
    numbers, records = np.random.default_rng(0), len(truth_R)
    drawn_BR = numbers.integers(records, size=(RESAMPLINGS, records))
    if truth_R.dtype.kind == "b":  # a resampling of one class alone has no curve
        drawn_BR = drawn_BR[truth_R[drawn_BR].any(1) & ~truth_R[drawn_BR].all(1)]
    drawn_BR = np.concatenate([np.arange(records)[None], drawn_BR])  # first the records as they are
    value = {name: of(truth_R[drawn_BR], said_R[drawn_BR]) for name, said_R in (runs | others).items()}
    mean = f"mean of {len(runs)} runs"
    value[mean] = np.mean([value[name] for name in runs], axis=0)
    value |= {f"runs less {name}": value[mean] - value[name] for name in others}
    for name in (*runs, mean, *others, *(f"runs less {name}" for name in others)):
        low, high = np.quantile(value[name][1:], [0.005, 0.995])
        print(f"{metric:9} {name:40} {value[name][0]:+.3f}  [{low:+.3f}, {high:+.3f}]")


def main(words: list[str] | None = None) -> None:
    """Print the metrics of each run, of the baselines, and their differences."""
    parser = argparse.ArgumentParser(description="Simple regressions, on the split of fine-tuned runs.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of runs that differ in their seeds alone")
    parser.add_argument("--train", type=Path, help="the training table, where it is not the one of the held-out rows")
    args = parser.parse_args(words)
    said = [rows_of(run / "predictions.csv") for run in args.runs]
    held = said[0]
    places = {(row["file"], row["row"]) for row in held}
    if any({(row["file"], row["row"]) for row in rows} != places for rows in said):
        parser.exit(1, "these runs were judged by different records\n")
    tables = [str(args.train)] if args.train else sorted({row["file"] for row in held})
    train = [r for t in tables for n, r in enumerate(rows_of(Path(t)), 1) if (t, str(n)) not in places]
    labels = [row["label"] for row in train]
    classes = sorted(set(labels), key=labels.count)
    numbers = len(classes) != 2
    truth_R = np.array([float(row["label"]) if numbers else row["label"] == classes[0] for row in held])
    label_N = np.array([float(label) if numbers else label == classes[0] for label in labels])
    runs = {run.name: answers(rows, None if numbers else classes[0]) for run, rows in zip(args.runs, said, strict=True)}
    others = dict(baselines([r["record"] for r in train], label_N, [r["record"] for r in held]))
    print(f"{len(held)} held-out records, {len(train)} to learn from; 99 % intervals")
    if numbers:
        tell("RMSE", rmse, truth_R, runs, others)
        tell("Spearman", spearman, truth_R, runs, others)
    else:
        tell("ROC AUC", roc_auc, truth_R, runs, others)


if __name__ == "__main__":
    main()
