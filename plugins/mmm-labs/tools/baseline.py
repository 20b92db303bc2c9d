"""Gradient-boosted trees on the very split of fine-tuned runs: ``python tools/baseline.py RUN [RUN ...]``.

A run's ``predictions.csv`` says which rows were held out; all other labelled rows of its files train the trees
(scikit-learn's HistGradientBoostingClassifier as it comes, with missing cells as such and words as categories; the seed is the
run's). Both are judged on the same records. Intervals are 99 % percentiles of 2000 resamplings of the records; of several runs
of one split, their mean is resampled.

Shape suffixes: R held-out records, B resamplings.
"""

import argparse
import csv
import glob
from pathlib import Path

import numpy as np
import yaml
from mmm_labs._panel import Panel, number_of
from mmm_labs.labs import Labs
from sklearn.ensemble import HistGradientBoostingClassifier

RESAMPLINGS, TAIL = 2000, 0.005


def held_out(run):
    """{(file, row): (label, prediction)} of a run."""
    with (run / "predictions.csv").open(newline="") as file:
        return {(r["file"], r["row"]): (r["label"], r["prediction"]) for r in csv.DictReader(file)}


def rows(run, recipe):
    """{(file, row): (values, label)} of all labelled rows of the run's files."""
    init = next(m["init_args"] for m in recipe["model"]["modalities"].values() if m["class_path"] == "Labs")
    tokenizer = Labs(**init).tokenizer
    data = recipe["data"]
    patterns = [p for part in ("files", "test") for given in (data.get(part) or {}).values()
                for p in ([given] if isinstance(given, str) else given)]  # fmt: skip
    files = [f for p in patterns for f in sorted(glob.glob(p, recursive=True))] or sorted({f for f, _ in held_out(run)})
    found = (record for file in files for record in tokenizer.records(Path(file)))
    return {(r.path, str(r.record)): (tokenizer.values(r.raw), r.label) for r in found if r.label is not None}


def table(values, panel):
    """Numbers and numbers of categories, a column a code; NaN where a cell is missing or its category is new."""
    made = np.full((len(values), len(panel.numbers) + len(panel.categories)), np.nan)
    for r, row in enumerate(values):
        for c, code in enumerate((*panel.numbers, *panel.categories)):
            if code in panel.numbers and code in row:
                made[r, c] = number_of(row[code])
            elif code in row and str(row[code]) in panel.categories[code]:
                made[r, c] = panel.categories[code].index(str(row[code]))
    return made


def trees(run):
    """(truth_R, model's answer_R, trees' answer_R) of one run."""
    recipe, held = yaml.safe_load((run / "recipe.yaml").read_text()), held_out(run)
    all_rows = rows(run, recipe)
    train = [value for place, value in all_rows.items() if place not in held]
    panel = Panel.of(values for values, _ in train)
    words = [False] * len(panel.numbers) + [True] * len(panel.categories)
    model = HistGradientBoostingClassifier(categorical_features=words, random_state=recipe["seed"])
    model.fit(table([values for values, _ in train], panel), [label for _, label in train])
    places = sorted(held)
    said = model.predict(table([all_rows[place][0] for place in places], panel))
    truth, answer = (np.array([held[place][i] for place in places]) for i in (0, 1))
    return truth, answer, said


def accuracy(truth, said, times_BR):
    """value_B, where each record counts so many times."""
    return times_BR @ (truth == said) / times_BR.sum(1)


def macro_f1(truth, said, times_BR):
    """value_B: the mean over the classes of the truth."""
    classes = np.unique(truth)
    true_RL, said_RL = (x[:, None] == classes for x in (truth, said))
    right_BL = times_BR @ (true_RL & said_RL)
    named_BL = times_BR @ true_RL + times_BR @ said_RL
    return np.divide(2 * right_BL, named_BL, out=np.zeros(right_BL.shape), where=named_BL > 0).mean(1)


def told(name, metric, results):
    """One line: the mean over runs of the model's metric, the trees', and their difference, with intervals."""
    records = len(results[0][0])
    times_BR = np.random.default_rng(0).multinomial(records, np.full(records, 1 / records), size=RESAMPLINGS)
    times_BR = np.concatenate([np.ones((1, records), int), times_BR])  # the first: the records as they are
    value_B = [np.mean([metric(truth, answers[i], times_BR) for truth, *answers in results], 0) for i in (0, 1)]
    parts = []
    for label, (v, *b) in zip(("model", "trees", "difference"), (*value_B, value_B[0] - value_B[1]), strict=True):
        low, high = np.quantile(b, [TAIL, 1 - TAIL])
        parts.append(f"{label} {v:.3f} [{low:.3f}, {high:.3f}]")
    print(f"{name:<9} {'; '.join(parts)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of fine-tuned runs (Classify) of one split")
    results = [trees(run) for run in parser.parse_args().runs]
    if any(not np.array_equal(truth, results[0][0]) for truth, *_ in results):
        parser.exit(1, "these runs have different splits; give one of them at a time\n")
    labels, counts = np.unique(results[0][0], return_counts=True)
    print(f"{len(results)} runs, {sum(counts)} records: {', '.join(f'{n} {w}' for w, n in zip(labels, counts, strict=True))}")
    told("accuracy", accuracy, results)
    told("macro F1", macro_f1, results)


if __name__ == "__main__":
    main()
