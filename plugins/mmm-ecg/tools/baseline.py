"""Simple classifiers of the samples on the very split of fine-tuned runs: ``python tools/baseline.py RUN [RUN ...]``.

A run's ``predictions.csv`` says which records were held out; all others of its files train a logistic regression of the
standardised samples, and scikit-learn's HistGradientBoostingClassifier as it comes (the seed is the run's). All are judged on
the same records. Intervals are 99 % percentiles of 2000 resamplings of the records; of several runs of one split, their mean
is resampled. With ``--against normal`` every other class counts as one.

Shape suffixes: R records, M samples, B resamplings.
"""

import argparse
import csv
import glob
from pathlib import Path

import numpy as np
import yaml
from mmm_ecg.ecg import Ecg
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

RESAMPLINGS, TAIL = 2000, 0.005


def held_out(run):
    """{(file, row): (label, prediction)} of a run."""
    with (run / "predictions.csv").open(newline="") as file:
        return {(r["file"], r["row"]): (r["label"], r["prediction"]) for r in csv.DictReader(file)}


def rows(run, recipe):
    """{(file, row): (samples of all leads, label)} of all labelled records of the run's files, which have one length."""
    init = next(m["init_args"] for m in recipe["model"]["modalities"].values() if m["class_path"] == "Ecg")
    tokenizer = Ecg(**init).tokenizer
    data = recipe["data"]
    patterns = [p for part in ("files", "test") for given in (data.get(part) or {}).values()
                for p in ([given] if isinstance(given, str) else given)]  # fmt: skip
    files = [f for p in patterns for f in sorted(glob.glob(p, recursive=True))] or sorted({f for f, _ in held_out(run)})
    found = (record for file in files for record in tokenizer.records(Path(file)))
    return {
        (r.path, str(r.record)): (tokenizer.crop(r.raw)[0].sample_LM.reshape(-1), r.label) for r in found if r.label is not None
    }


def simple(run):
    """(truth_R, {name: answer_R}) of one run: of the model, the regression, and the trees."""
    recipe, held = yaml.safe_load((run / "recipe.yaml").read_text()), held_out(run)
    all_rows = rows(run, recipe)
    train = [value for place, value in all_rows.items() if place not in held]
    sample_RM, labels = np.stack([sample_M for sample_M, _ in train]), [label for _, label in train]
    places = sorted(held)
    held_RM = np.stack([all_rows[place][0] for place in places])
    truth, answer = (np.array([held[place][i] for place in places]) for i in (0, 1))
    answers = {"model": answer}
    for name, classifier in (
        ("regression", make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))),
        ("trees", HistGradientBoostingClassifier(random_state=recipe["seed"])),
    ):
        answers[name] = classifier.fit(sample_RM, labels).predict(held_RM)
    return truth, answers


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
    """A line for each: the mean over runs of the metric, and the model's lead over it, with intervals."""
    records = len(results[0][0])
    times_BR = np.random.default_rng(0).multinomial(records, np.full(records, 1 / records), size=RESAMPLINGS)
    times_BR = np.concatenate([np.ones((1, records), int), times_BR])  # the first: the records as they are
    value_B = {who: np.mean([metric(truth, answers[who], times_BR) for truth, answers in results], 0) for who in results[0][1]}
    for who, value in value_B.items():
        low, high = np.quantile(value[1:], [TAIL, 1 - TAIL])
        line = f"{name:<9} {who:<11} {value[0]:.3f} [{low:.3f}, {high:.3f}]"
        if who != "model":
            lead = value_B["model"] - value
            low, high = np.quantile(lead[1:], [TAIL, 1 - TAIL])
            line += f"   model's lead {lead[0]:+.3f} [{low:+.3f}, {high:+.3f}]"
        print(line)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of fine-tuned runs (Classify) of one split")
    parser.add_argument("--against", metavar="CLASS", help="this class against all others together")
    args = parser.parse_args()
    results = [simple(run) for run in args.runs]
    if any(not np.array_equal(truth, results[0][0]) for truth, _ in results):
        parser.exit(1, "these runs have different splits; give one of them at a time\n")
    labels, counts = np.unique(results[0][0], return_counts=True)
    print(f"{len(results)} runs, {sum(counts)} records: {', '.join(f'{n} {w}' for w, n in zip(labels, counts, strict=True))}")
    if args.against:
        results = [(t == args.against, {k: a == args.against for k, a in answers.items()}) for t, answers in results]
    told("accuracy", accuracy, results)
    told("macro F1", macro_f1, results)


if __name__ == "__main__":
    main()
