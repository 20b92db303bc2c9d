"""How well a task was learned: its metric on held-out records, beside a guess that looks at no record.

Shape suffixes: R records, L classes, B resamplings, N tokens.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .core.draw import Draw
from .core.modality import Tokenizer
from .core.objective import Prediction
from .core.tokens import Sample, pack
from .core.training import Training
from .core.view import View
from .data.module import Data
from .loaded import learned_dropped
from .skill import CONFIDENCE, RESAMPLINGS, gathered, scoring

HEADER = ("file", "row", "record", "label", "prediction", "score")
"""Columns of ``predictions.csv``."""
CONFUSION = 20
"""Classes that a table of confusions is made of, at most."""


@dataclass(frozen=True)
class Row:
    """What is told of one record: a line of ``predictions.csv``, and the numbers that the metric compares."""

    file: str
    row: str | int | None
    record: str
    label: str
    prediction: str
    score: float | None
    answer: list[float]
    truth: list[float]
    guess: list[float]

    @classmethod
    def of(cls, p: Prediction) -> Row:
        """Records that are files or arrays have no string of their own."""
        raw = p.record.raw
        record = str(raw) if isinstance(raw, (str, Path)) else ""
        numbers = (np.atleast_1d(x.double().numpy()).tolist() for x in (p.answer, p.truth, p.guess))
        return cls(str(p.record.path), p.record.record, record, p.label, p.said, p.score, *numbers)


@dataclass(frozen=True)
class Result:
    """A task's metric.

    Args:
        metric: its name. value; low, high: its 99 % interval, by resampling the records. records: how many.
        on: "test", a test set by its own file, or "validation", the share that was held out.
        guess: the metric of what is said without a look at the record (the commonest class, the mean); NaN where it has none.
        more: other figures, by name. rows: of every record.
    """

    metric: str
    value: float
    low: float
    high: float
    records: int
    on: str
    guess: float
    more: dict[str, float] = field(default_factory=dict)
    rows: tuple[Row, ...] = ()

    def summary(self) -> dict[str, Any]:
        """What ``summary.json`` says of it."""
        return {k: v for k, v in asdict(self).items() if k != "rows"} | {"confusion": confusion(self)}


def check(training: Training, data: Data) -> None:
    """Look at every label before anything is learned.

    Raises:
        BadRecord: where a label cannot be used, or is of a class that no training record has.
    """
    if training.objective.metric is not None:
        for split in ("train", "validation"):
            for name in training.modalities:
                for record in data.records(name, split):
                    training.objective.check(record)


def evaluate(training: Training, data: Data) -> Result | None:
    """The metric on the held-out records: those of ``data.test`` where it names any, else of the validation share.

    All processes take part and all get the result, which is that of one process. None where the objective predicts no labels.
    """
    metric = training.objective.metric
    if metric is None:
        return None
    on, draw = "test" if data.test else "validation", training.draw.stream("bootstrap").stream("task")
    with scoring(training, data):
        found = result(metric, _rows(training, data), on, draw)
        if training.objective.remember(training.model, data.in_batches("train"), training.draw):
            by_head = found
            found = result(metric, _rows(training, data), on, draw)
            found.more["of the head"] = by_head.value
    return found


def _rows(training: Training, data: Data) -> list[Row]:
    """What is said of every held-out record, over all processes."""
    rows = []
    for batch in data.val_dataloader():
        for tokens in batch.micro:
            views = training.objective.views(tokens, 1.0, training.draw)
            on_device = [view.to(training.device) for view in views]
            predictions = training.objective.predictions(training.model, tokens.to(training.device), on_device)
            rows += [Row.of(p) for p in predictions]
    rows = [row for share in gathered(rows) for row in share]
    if not rows:
        raise ValueError("no held-out record has a label, so the task cannot be judged; give --data.test.MODALITY")
    return sorted(rows, key=lambda r: (r.file, _natural(r.row), r.answer, r.truth))


def result(metric: str, rows: Sequence[Row], on: str, draw: Draw) -> Result:
    """The metric of these answers, its interval and the guess's."""
    answers, truths, guesses = ([np.array(getattr(r, k)) for r in rows] for k in ("answer", "truth", "guess"))
    value = measured(metric, answers, truths)
    low, high = interval(metric, answers, truths, draw)
    more = {}
    if metric == "Spearman":
        from torchmetrics.functional import r2_score

        if len(rows) > 1:
            more["R2"] = float(r2_score(*(torch.tensor(np.concatenate(x)) for x in (answers, truths))))
    elif metric == "accuracy":
        classes = int(max(np.concatenate(answers + truths))) + 1
        more["macro F1"] = _multiclass("multiclass_f1_score", answers, truths, max(2, classes), average="macro")
    return Result(metric, value, low, high, len(rows), on, measured(metric, guesses, truths), more, tuple(rows))


def measured(metric: str, answers: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> float:
    """The metric by torchmetrics, over records; NaN where it is not defined."""
    from torchmetrics.functional import spearman_corrcoef
    from torchmetrics.functional.classification import multilabel_f1_score

    if metric == "Spearman":
        answer_R, truth_R = (torch.tensor(np.concatenate(x)) for x in (answers, truths))
        if len(answer_R) < 2 or answer_R.unique().numel() < 2 or truth_R.unique().numel() < 2:
            return math.nan
        return float(spearman_corrcoef(answer_R, truth_R))
    if metric == "macro F1":
        answer_RL, truth_RL = (torch.tensor(np.stack(x)).long() for x in (answers, truths))
        return float(multilabel_f1_score(answer_RL, truth_RL, num_labels=truth_RL.shape[1], average="macro"))
    return _multiclass(
        "multiclass_accuracy", answers, truths, int(max(np.concatenate([*answers, *truths]))) + 2, average="micro"
    )


def _multiclass(name: str, answers: Sequence[np.ndarray], truths: Sequence[np.ndarray], classes: int, **settings: Any) -> float:
    from torchmetrics.functional import classification

    answer_N, truth_N = (torch.tensor(np.concatenate(x)).long() for x in (answers, truths))
    return float(getattr(classification, name)(answer_N, truth_N, num_classes=classes, **settings))


def interval(metric: str, answers: Sequence[np.ndarray], truths: Sequence[np.ndarray], draw: Draw) -> tuple[float, float]:
    """The 99 % percentile interval, from 2000 resamplings of the records.

    Paper: Efron 1979, "Bootstrap methods: another look at the jackknife", doi:10.1214/aos/1176344552.
    """
    numbers, records = np.random.default_rng(draw.seed()), len(answers)
    again = _resampled(metric, answers, truths)
    value_B = []
    for _ in range(RESAMPLINGS // 100):  # 100 at a time bounds the memory
        times_BR = numbers.multinomial(records, np.full(records, 1 / records), size=100)
        value_B.append(again(times_BR))
    tail = (1 - CONFIDENCE) / 2
    values = np.concatenate(value_B)
    values = values[np.isfinite(values)]  # a resampling of one label alone has no correlation
    if not len(values):
        return (math.nan, math.nan)
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _resampled(metric: str, answers: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """The metric as a function of how often each record is drawn: value_B of times_BR."""
    if metric == "Spearman":
        answer_R, truth_R = np.concatenate(answers), np.concatenate(truths)
        return lambda times_BR: np.array([_spearman(answer_R.repeat(t), truth_R.repeat(t)) for t in times_BR])
    if metric == "macro F1":
        answer_RL, truth_RL = np.stack(answers), np.stack(truths)
        right_RL, named_RL = answer_RL * truth_RL, answer_RL + truth_RL

        def macro_f1(times_BR: np.ndarray) -> np.ndarray:
            right_BL, named_BL = times_BR @ right_RL, times_BR @ named_RL
            f1_BL = np.divide(2 * right_BL, named_BL, out=np.zeros_like(right_BL), where=named_BL > 0)
            return np.asarray(f1_BL.mean(1))

        return macro_f1
    right_R = np.array([(a == t).sum() for a, t in zip(answers, truths, strict=True)], dtype=np.float64)
    asked_R = np.array([len(t) for t in truths], dtype=np.float64)
    return lambda times_BR: np.asarray((times_BR @ right_R) / (times_BR @ asked_R))


def _spearman(answer_R: np.ndarray, truth_R: np.ndarray) -> float:
    from scipy.stats import rankdata

    a, t = rankdata(answer_R), rankdata(truth_R)
    a, t = a - a.mean(), t - t.mean()
    spread = math.sqrt((a @ a) * (t @ t))
    return float(a @ t) / spread if spread > 0 else math.nan


def confusion(result: Result) -> dict[str, Any] | None:
    """``labels`` and ``counts[truth][answer]`` of a choice of one class; None where there are many, or it is none."""
    names: dict[int, str] = {}
    if result.metric not in ("accuracy", "token accuracy"):
        return None
    for row in result.rows:
        for numbers, told in ((row.answer, row.prediction), (row.truth, row.label)):
            names |= {int(n): word for n, word in zip(numbers, _words(told, len(numbers)), strict=True)}
    if len(names) > CONFUSION:
        return None
    order = sorted(names)
    counts = np.zeros((len(order), len(order)), dtype=np.int64)
    for row in result.rows:
        np.add.at(counts, (np.searchsorted(order, row.truth), np.searchsorted(order, row.answer)), 1)
    return {"labels": [names[n] for n in order], "counts": counts.tolist()}


def _words(told: str, number: int) -> list[str]:
    """The names in a label of so many."""
    if number == 1:
        return [told.strip()]
    return list(told) if len(told) == number else told.split()


def _natural(row: str | int | None) -> tuple[int, int, str]:
    return (0, row, "") if isinstance(row, int) else (1, 0, str(row))


def predictions_csv(rows: Sequence[Row]) -> str:
    """The text of ``predictions.csv``: a line a held-out record."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(HEADER)
    for r in rows:
        score = "" if r.score is None else f"{r.score:.6g}"
        table.writerow((r.file, "" if r.row is None else r.row, r.record, r.label, r.prediction, score))
    return text.getvalue()


@torch.no_grad()
def pseudo_log_likelihood(
    training: Training, records: Sequence[Any], modality: str | None = None, tokens_per_batch: int = 8192
) -> list[float]:
    """How likely a masked model finds each record: each token in turn is hidden, and its log-probabilities are added up.

    A model that was trained on dropped tokens never learned the mask vector: there the hidden token is dropped.

    Paper: Salazar et al. 2020, "Masked language model scoring", arXiv:1910.14659, section 2.

    Args:
        training: a model with a head for a modality's ids, as ``mmm.load`` gives it; in evaluation mode.
        records: what the modality's tokenizer takes. modality: by default the model's only one.

    Returns:
        Sums in nats, at most 0; specials are not asked.

    Raises:
        ValueError: no such modality, no head that answers with its ids, or a record that is longer than the model reads.
    """
    model = training.model
    name = modality or model.names[0]
    if (modality is None and len(model.names) > 1) or name not in model.names:
        raise ValueError(f"modality {modality!r}: say which one the records are of: {', '.join(model.names)}")
    tokenizer = model.modalities[name].tokenizer
    assert isinstance(tokenizer, Tokenizer)
    heads = [h for a, h in model.heads.items() if a.split("/")[0] == name and h.size == tokenizer.size]
    if not heads or tokenizer.choices is None:
        raise ValueError(f"this model has no head that answers with ids of {name!r}; heads: {', '.join(model.heads) or 'none'}")
    tokenizers = {n: m.tokenizer for n, m in model.modalities.items()}
    drops = learned_dropped(training.objective)
    likelihoods = []
    for number, raw in enumerate(records):
        piece = tokenizer.tokenize(raw)
        if piece.cut:
            raise ValueError(f"record {number} is longer than this model reads; cut it")
        places = range(len(piece)) if piece.maskable is None else piece.maskable.nonzero()[:, 0].tolist()
        at_once = max(1, tokens_per_batch // len(piece))
        total = 0.0
        for start in range(0, len(places), at_once):
            some = places[start : start + at_once]
            tokens = pack([Sample({name: piece}, i) for i in range(len(some))], tokenizers)  # type: ignore[arg-type]
            asked_N = torch.arange(len(some)) * len(piece) + torch.tensor(some)
            hidden_T = torch.zeros(len(tokens), dtype=torch.bool).index_fill(0, asked_N, True)
            view = View.of(tokens, hidden_T, kept_K=(~hidden_T).nonzero()[:, 0] if drops else None)
            log_NV = heads[0](model(view.to(training.device))).float().log_softmax(-1)
            truth_N = tokens.content[name][asked_N].to(log_NV.device)
            total += float(log_NV.gather(1, truth_N[:, None]).sum())
        likelihoods.append(total)
    return likelihoods
