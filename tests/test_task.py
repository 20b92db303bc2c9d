"""The metric of a task: torchmetrics' own, with an interval over records; what a run leaves of it."""

import csv
import json
import math
from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, r2_score
from tasks import built, halves, protein, sentence, table
from tiny import mmm as command
from tiny import save, values, write

from mmm.core.draw import Draw
from mmm.core.modality import Record
from mmm.objectives.classify import Classify
from mmm.objectives.masked_modeling import MaskedModeling
from mmm.targets.token_ids import TokenIds
from mmm.task import Row, _resampled, confusion, evaluate, interval, measured, predictions_csv, pseudo_log_likelihood, result

NUMBERS = np.random.default_rng(0)


def rows_of(answers, truths, guess=0.0):
    made = []
    for i, (a, t) in enumerate(zip(answers, truths, strict=True)):
        a, t = np.atleast_1d(a).astype(float).tolist(), np.atleast_1d(t).astype(float).tolist()
        made.append(
            Row("f", i, "", "".join(f"{x:.0f}" for x in t), "".join(f"{x:.0f}" for x in a), None, a, t, [guess] * len(t))
        )
    return made


CASES = {
    "accuracy": (NUMBERS.integers(0, 3, 60), NUMBERS.integers(0, 3, 60)),
    "macro F1": (NUMBERS.integers(0, 2, (60, 4)), NUMBERS.integers(0, 2, (60, 4)) * [1, 1, 1, 0]),
    "Spearman": (NUMBERS.integers(0, 9, 60) / 3, NUMBERS.normal(size=60)),
    "token accuracy": ([NUMBERS.integers(0, 3, n) for n in range(1, 40)], [NUMBERS.integers(0, 3, n) for n in range(1, 40)]),
    "pairwise accuracy": (NUMBERS.integers(0, 2, 60), NUMBERS.integers(0, 2, 60)),
}


@pytest.mark.parametrize("metric", CASES)
def test_values_and_resamplings_agree_with_the_libraries(metric):
    from scipy.stats import spearmanr

    answers, truths = CASES[metric]
    rows = rows_of(answers, truths)
    found = result(metric, rows, "test", Draw(0))
    flat = [np.concatenate([np.atleast_1d(x) for x in column]) for column in (truths, answers)]
    theirs = {
        "macro F1": lambda: f1_score(truths, answers, average="macro", zero_division=0),
        "Spearman": lambda: spearmanr(*flat).statistic,
    }.get(metric, lambda: accuracy_score(*flat))()
    assert found.value == pytest.approx(theirs, abs=1e-6)
    assert found.records == len(rows)
    assert found.low < found.value < found.high
    again = _resampled(metric, *([np.array(getattr(r, k)) for r in rows] for k in ("answer", "truth")))
    assert again(np.ones((1, len(rows)), dtype=np.int64))[0] == pytest.approx(theirs, abs=1e-6)
    times = NUMBERS.multinomial(len(rows), np.full(len(rows), 1 / len(rows)))
    drawn = [r for r, t in zip(rows, times, strict=True) for _ in range(t)]
    ours = measured(metric, *([np.array(getattr(r, k)) for r in drawn] for k in ("answer", "truth")))
    assert again(times[None])[0] == pytest.approx(ours, abs=1e-6)
    if metric == "Spearman":
        assert found.more["R2"] == pytest.approx(r2_score(*flat), abs=1e-6)
        assert math.isnan(found.guess), "a constant has no rank correlation"


def test_the_interval_is_that_of_a_proportion():
    right = np.arange(400) < 300
    low, high = interval("accuracy", [np.array([int(r)]) for r in right], [np.array([1])] * 400, Draw(1))
    half = 2.576 * math.sqrt(0.75 * 0.25 / 400)
    assert (low, high) == (pytest.approx(0.75 - half, abs=0.012), pytest.approx(0.75 + half, abs=0.012))


def test_confusion_counts_by_hand():
    found = result("accuracy", rows_of([0, 1, 1, 2], [0, 1, 2, 2]), "test", Draw(0))
    assert confusion(found) == {"labels": ["0", "1", "2"], "counts": [[1, 0, 0], [0, 1, 0], [0, 1, 1]]}
    tags = result("token accuracy", rows_of([[0, 1], [1]], [[0, 0], [1]]), "test", Draw(0))
    assert confusion(tags) == {"labels": ["0", "1"], "counts": [[1, 1], [0, 1]]}


def test_the_guess_is_the_commonest_class_of_training(tmp_path):
    import random

    rng = random.Random(0)
    train = table(tmp_path / "a.csv", [(protein(rng), "often" if i % 4 else "rare") for i in range(40)])
    test = table(tmp_path / "b.csv", [(protein(rng), "often" if i % 2 else "rare") for i in range(41)])
    training, data = built("protein", train, Classify(), test=test)
    found = evaluate(training, data)
    assert (found.on, found.records, found.guess) == ("test", 41, pytest.approx(20 / 41))
    again = evaluate(training, data)
    assert again == found
    assert training.training


def test_processes_share_the_records_and_the_result_is_that_of_one(tmp_path, monkeypatch):
    from types import SimpleNamespace

    training, data = built("protein", halves(tmp_path, "protein"), Classify())
    whole = evaluate(training, data)
    shares = []
    for rank in (0, 1):
        data.trainer = SimpleNamespace(
            global_rank=rank, world_size=2, precision_plugin=SimpleNamespace(forward_context=torch.no_grad)
        )
        monkeypatch.setattr("mmm.task.gathered", lambda rows: shares.append(rows) or [rows])
        evaluate(training, data)
    monkeypatch.setattr("mmm.task.gathered", lambda rows: shares)
    assert sum(map(len, shares)) == whole.records
    both = evaluate(training, data)
    assert (both.value, both.low, both.high) == (whole.value, whole.low, whole.high)


def test_predictions_are_a_table_that_can_be_read_back():
    rows = [Row("a,b.csv", 1, 'with "quotes",\nand lines', "x", "y", 0.25, [1.0], [0.0], [0.0])]
    read = list(csv.DictReader(predictions_csv(rows).splitlines(keepends=True)))
    assert read == [
        {"file": "a,b.csv", "row": "1", "record": 'with "quotes",\nand lines', "label": "x", "prediction": "y", "score": "0.25"}
    ]


def test_pseudo_log_likelihood_hides_every_token_in_turn(tmp_path):
    from mmm.core.view import View
    from mmm.corruptions.mask_vector import MaskVector
    from mmm.masking.uniform import Uniform

    objective = MaskedModeling(Uniform(), MaskVector(), {"protein": TokenIds()})
    training, data = built("protein", halves(tmp_path, "protein"), objective)
    training.eval()
    records = ["ACDEFG", "WW"]
    found = pseudo_log_likelihood(training, records)
    assert pseudo_log_likelihood(training, records, "protein", tokens_per_batch=1) == pytest.approx(found, abs=1e-4)
    for record, total in zip(records, found, strict=True):
        tokens, by_hand = data.pack([{"protein": recorded(record)}]), 0.0
        for place in range(1, len(record) + 1):
            view = View.of(tokens, torch.arange(len(tokens)) == place)
            logits = training.model.heads["protein/TokenIds"](training.model(view))[0]
            by_hand += float(logits.detach().log_softmax(-1)[tokens.content["protein"][place]])
        assert total == pytest.approx(by_hand, abs=1e-4)
    with pytest.raises(ValueError, match="longer than this model reads"):
        pseudo_log_likelihood(training, ["A" * 99])
    task, _ = built("protein", halves(tmp_path, "protein"), Classify())
    with pytest.raises(ValueError, match="say which one"):
        pseudo_log_likelihood(task, records, "text")


def recorded(raw):
    return Record("memory", None, raw, raw.encode())


# -- a run ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A run of four modalities that others begin from."""
    folder = tmp_path_factory.mktemp("pretrained")
    files = write(folder / "files")
    done = command("run", save(folder / "tiny.yaml", values(files)), "--run_dir", str(folder / "out"))
    assert done.status == 0, done.err
    return folder / "out"


def tune(pretrained, folder, name, rows, *words, header=("record", "label")):
    path = f"recipes/finetune/{name}.yaml"
    train = table(folder / "train.csv", rows, header)
    done = command(
        "run", path, "--init_from", pretrained, f"--data.files.{name}", train, "--trainer.max_steps", "3",
        "--trainer.accelerator", "cpu", "--data.tokens_per_batch", "400", "--run_dir", folder / "tuned", *words,
    )  # fmt: skip
    assert done.status == 0, done.err
    return json.loads((folder / "tuned" / "summary.json").read_text()), (folder / "tuned" / "report.html").read_text()


def test_a_run_leaves_its_task_its_predictions_and_a_report(pretrained, tmp_path):
    import random

    rng = random.Random(0)
    rows = [(sentence(rng, "<b>" if i % 2 else "poor"), "<i>odd</i>" if i % 2 else "even") for i in range(60)]
    test = [(sentence(rng, "poor"), "even") for _ in range(11)]
    facts, page = tune(
        pretrained, tmp_path, "text", rows, "--data.test.text", table(tmp_path / "test.csv", test), "--adapter", "probe"
    )
    task = facts["task"]
    assert (task["metric"], task["records"], task["on"]) == ("accuracy", 11, "test")
    assert task["low"] <= task["value"] <= task["high"]
    lines = list(csv.DictReader((tmp_path / "tuned" / "predictions.csv").open(newline="", encoding="utf-8")))
    assert Counter(line["record"] for line in lines) == Counter(record for record, _ in test)
    assert {line["label"] for line in lines} == {"even"}
    assert task["value"] == pytest.approx(sum(line["label"] == line["prediction"] for line in lines) / 11)
    assert facts["skill"] == {}
    assert "The task" in page
    assert "the records of the test set" in page
    assert "<i>odd" not in page
    assert not any(word in page for word in ("What it fills in", "Nothing was scored", "nan"))


@pytest.mark.parametrize(("objective", "label"), [("Regress", "1.5 -2"), ("MultiLabel", "a b|a"), ("Tag", "tags")])
def test_other_tasks_by_their_name(pretrained, tmp_path, objective, label):
    import random

    rng = random.Random(0)
    rows = []
    for i in range(40):
        sequence = protein(rng)
        rows.append((sequence, "".join("HC"[c in "AEL"] for c in sequence) if label == "tags" else label.split()[i % 2]))
    facts, page = tune(pretrained, tmp_path, "protein", rows, "--model.objective", objective, "--adapter", "bitfit")
    assert facts["task"]["on"] == "validation"
    assert "held-out share" in page
    assert set(facts["losses"]) == {f"protein/{ {'Regress': 'Values', 'MultiLabel': 'ClassSet', 'Tag': 'Tags'}[objective] }"}


@pytest.mark.parametrize("name", ["image", "audio"])
def test_files_and_their_table(pretrained, tmp_path, name):
    halves(tmp_path, name, 30)
    with (tmp_path / f"{name}.csv").open(newline="") as file:
        _, *rows = csv.reader(file)
    facts, _ = tune(pretrained, tmp_path, name, rows)
    assert facts["task"]["records"] == facts["data"]["validation"][f"files.{name}"]
    assert facts["init_from"]["new"]


def test_labels_that_changed_are_noticed_on_resume(tmp_path):
    path = halves(tmp_path, "protein")
    _, data = built("protein", path, Classify())
    before = data.state_dict()
    (tmp_path / "protein.csv").write_text((tmp_path / "protein.csv").read_text().replace(",a", ",c"))
    _, data = built("protein", path, Classify())
    with pytest.raises(ValueError, match="not those this run began with"):
        data.load_state_dict(before)


def test_a_masked_audit_of_a_task_asks_nothing(pretrained, tmp_path):
    path = halves(tmp_path, "protein")
    done = command("masks", "recipes/finetune/protein.yaml", "--init_from", pretrained, "--data.files.protein", path, "--json")
    assert (done.status, json.loads(done.out)) == (0, {})


def test_a_finished_task_can_be_loaded_and_its_classes_with_it(pretrained, tmp_path):
    import random

    import mmm

    rng = random.Random(0)
    rows = [(protein(rng), ("one", "two", "three")[i % 3]) for i in range(45)]
    tune(pretrained, tmp_path, "protein", rows, "--adapter", "knn")
    loaded = mmm.load(tmp_path / "tuned")
    assert loaded.objective.target.names == ["one", "three", "two"]
    assert loaded.model.heads["task/protein/Classes"].size == 3
