"""What was learned of each modality: the error on validation records beside that of the best guess without context.

Shape suffixes: N asked tokens, S segments, R records, B resamplings.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from .core.draw import Draw
from .core.modality import Record
from .core.objective import Answer
from .core.target import Baseline, Target
from .core.tokens import Tokens, pack
from .core.training import Training
from .core.view import View
from .data.module import VALIDATION_EPOCH, Data
from .look import Look

log = logging.getLogger("mmm")
T = TypeVar("T")

RESAMPLINGS, CONFIDENCE = 2000, 0.99
BASELINE_RECORDS = 8192
"""Training records that a baseline is learned from, at most."""


@dataclass(frozen=True)
class Skill:
    """How much of the context-free error a model takes away: 1 is all of it, 0 is none, less than 0 is worse than guessing.

    Args:
        value: 1 - loss / baseline. low, high: its 99 % interval, by resampling the records.
        loss, baseline: means over the asked tokens, of the model and of the context-free guess. unit: theirs.
        records, tokens: how many were asked.
        target: what was predicted. vocabulary: how many answers it has to choose from; None where it is not a choice.
        guess: what the context-free guess is.
        masked: (value, low, high) over the asked tokens that show nothing: the mask vector, or dropped. Where some are asked
            though they are shown (BERT keeps 10 %), those can be copied; this is what was learned of context alone.
    """

    value: float
    low: float
    high: float
    loss: float
    baseline: float
    unit: str
    records: int
    tokens: int
    target: str
    vocabulary: int | None
    guess: str
    masked: tuple[float, float, float]


@dataclass(frozen=True)
class Score:
    """The sums of one validation record: its name, its asked tokens, the model's loss and the baseline's; then the same two
    over the asked tokens that show nothing."""

    sample: int
    tokens: int
    loss: float
    baseline: float
    masked_loss: float
    masked_baseline: float


def evaluate(training: Training, data: Data, records: int | None = None) -> dict[str, Skill]:
    """The skill of each modality, at its first target, on the validation records.

    The views are those of validation: asked as at the end of training, by the records' own randomness. All processes take
    part and all get the result, which is that of one process.

    Args:
        training: built. data: read.
        records: of training, that a baseline is learned from, at most; ``BASELINE_RECORDS`` by default. Validation records are
            all taken.

    Returns:
        Nothing of a modality that was not asked (said aloud), and nothing at all where an objective gives no answers.
    """
    scores, facts = scored(training, data, records)
    skills = {}
    for name in training.model.names:
        found = scores.get(name, [])
        if not found and (training.objective.metric is not None or not data.records(name, "validation")):
            continue  # a task asks no token; a run may have no data of a modality it began with
        if sum(s.baseline for s in found) == 0:
            log.warning("skill of %r: nothing was asked in validation, or guessing makes no error; there is none to tell", name)
            continue
        skills[name] = summed(training, name, found, facts[name])
    return skills


Baselines = dict[str, tuple[Baseline, dict[str, Any]]]


def scored(
    training: Training, data: Data, records: int | None = None, baselines: Baselines | None = None
) -> tuple[dict[str, list[Score]], dict[str, dict[str, Any]]]:
    """(scores of the validation records of each modality, in the order of their names; what they are scores of).

    Args:
        training, data, records: see ``evaluate``. baselines: learned before; what is missing there is learned and put there.
    """
    scores: dict[str, list[Score]] = {}
    baselines = {} if baselines is None else baselines
    with scoring(training, data):
        for batch in data.val_dataloader():
            for tokens in batch.micro:
                views, answers = ask(training, tokens)
                if not answers:
                    continue
                masked_T = Look.at(tokens, views[0]).masked_T
                for answer in first_answers(answers).values():
                    if answer.name not in baselines:
                        guess = context_free(training, data, answer.name, answer.target, records)
                        baselines[answer.name] = guess, _facts(answer, guess)
                    guess, _ = baselines[answer.name]
                    scores.setdefault(answer.name, []).extend(_scores(tokens, answer, guess, masked_T))
    shares = gathered((scores, {name: facts for name, (_, facts) in baselines.items()}))
    names = {name for share, _ in shares for name in share}
    ordered = {n: sorted((s for share, _ in shares for s in share.get(n, [])), key=lambda s: (s.sample, s.loss)) for n in names}
    return ordered, {name: next(f[name] for _, f in shares if name in f) for name in names}


def summed(training: Training, name: str, scores: Sequence[Score], facts: dict[str, Any]) -> Skill:
    """The skill that scores of one modality amount to; both as ``scored`` gives them."""
    return _skill(scores, training.draw.stream("bootstrap").stream(name), facts)


@contextmanager
def scoring(training: Training, data: Data) -> Iterator[None]:
    """Asking without learning: no gradients, no dropout, the trainer's precision where there is one."""
    modes = [(module, module.training) for module in training.modules()]
    trainer = data.trainer
    training.eval()
    try:
        with torch.no_grad(), nullcontext() if trainer is None else trainer.precision_plugin.forward_context():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def ask(training: Training, tokens: Tokens) -> tuple[list[View], list[Answer]]:
    """The views of one host batch, as validation makes them, and the answers, on the model's device."""
    views = training.objective.views(tokens, 1.0, training.draw)
    device = training.device
    return views, training.objective.answers(training.model, tokens.to(device), [v.to(device) for v in views])


def first_answers(answers: Sequence[Answer]) -> dict[str, Answer]:
    """The answer to the first target of each modality."""
    first: dict[str, Answer] = {}
    for answer in answers:
        first.setdefault(answer.name, answer)
    return first


def context_free(training: Training, data: Data, name: str, target: Target, records: int | None = None) -> Baseline:
    """The best guess without context, of all target tokens of training records, read as validation reads its own."""
    found = data.training_records(name)
    most = BASELINE_RECORDS if records is None else records
    if len(found) > most:
        log.info("baseline of %r: learned from %d of %d training records", name, most, len(found))
        found = by_key(found, training.draw.stream("baseline"), most)
    return target.context_free(_truths(training, data, name, target, found))


def by_key(records: Sequence[Record], draw: Draw, most: int) -> list[Record]:
    """At most so many records, the first in an order of their own keys, which does not depend on the order they come in."""
    bits_N = draw.bits(torch.tensor([r.sample for r in records], dtype=torch.int64))
    return [records[i] for i in bits_N.sort(stable=True).indices[:most].tolist()]


def gathered(value: T) -> list[T]:
    """What every process holds, in the order of their ranks; one entry without several processes."""
    if not (dist.is_available() and dist.is_initialized()):
        return [value]
    values: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def _truths(training: Training, data: Data, name: str, target: Target, records: Sequence[Record]) -> Iterator[Tensor]:
    for start in range(0, len(records), 64):
        samples = [data.tokenize({name: record}, VALIDATION_EPOCH) for record in records[start : start + 64]]
        tokens = pack(samples, data.tokenizers)
        index_N = tokens.index[name]
        asked_N = index_N[tokens.layout.maskable_T[index_N]]
        yield target.truth(tokens.to(training.device), asked_N.to(training.device))


def _scores(tokens: Tokens, answer: Answer, baseline: Baseline, masked_T: Tensor) -> list[Score]:
    """The sums of each record that was asked."""
    answer_N = answer.answer_N.cpu()
    segment_N, masked_N = tokens.layout.segment_T[answer_N], masked_T[answer_N]

    def sums(value_N: Tensor) -> list[float]:
        total_S = torch.zeros(tokens.layout.segments, dtype=torch.float64)
        return total_S.index_add_(0, segment_N, value_N).tolist()

    loss_N, baseline_N = answer.loss_N.detach().cpu().double(), baseline.loss(answer.truth_N).double()
    rows = zip(
        tokens.layout.sample_S.tolist(),
        torch.bincount(segment_N, minlength=tokens.layout.segments).tolist(),
        *(sums(v) for v in (loss_N, baseline_N, loss_N * masked_N, baseline_N * masked_N)),
        strict=True,
    )
    return [Score(*row) for row in rows if row[1]]


def _facts(answer: Answer, baseline: Baseline) -> dict[str, Any]:
    target = answer.target
    vocabulary = None if answer.truth_N.is_floating_point() else target.size
    return {"unit": target.unit, "target": type(target).__name__, "vocabulary": vocabulary, "guess": baseline.description}


def _skill(scores: Sequence[Score], draw: Draw, facts: dict[str, Any]) -> Skill:
    tokens = sum(s.tokens for s in scores)
    loss_R, baseline_R = np.array([s.loss for s in scores]), np.array([s.baseline for s in scores])
    masked = _value(np.array([s.masked_loss for s in scores]), np.array([s.masked_baseline for s in scores]), draw)
    value, low, high = _value(loss_R, baseline_R, draw)
    means = (float(loss_R.sum()) / tokens, float(baseline_R.sum()) / tokens)
    return Skill(value, low, high, *means, records=len(scores), tokens=tokens, masked=masked, **facts)


def _value(loss_R: np.ndarray, baseline_R: np.ndarray, draw: Draw) -> tuple[float, float, float]:
    """(value, low, high)."""
    if baseline_R.sum() == 0:
        return (math.nan, math.nan, math.nan)
    return (1 - float(loss_R.sum()) / float(baseline_R.sum()), *interval(loss_R, baseline_R, draw))


def interval(loss_R: np.ndarray, baseline_R: np.ndarray, draw: Draw) -> tuple[float, float]:
    """The 99 % percentile interval of 1 - sum(loss) / sum(baseline), from 2000 resamplings of the records.

    Records, not tokens, are drawn: the tokens of one are alike.
    Paper: Efron 1979, "Bootstrap methods: another look at the jackknife", doi:10.1214/aos/1176344552.
    """
    numbers = np.random.default_rng(draw.seed())
    records = len(loss_R)
    value_B = []
    for _ in range(RESAMPLINGS // 100):  # 100 at a time bounds the memory
        times_BR = numbers.multinomial(records, np.full(records, 1 / records), size=100).astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):  # few records: a resampling may ask nothing
            value_B.append(1 - (times_BR @ loss_R) / (times_BR @ baseline_R))
    finite_B = np.concatenate(value_B)
    finite_B = finite_B[np.isfinite(finite_B)]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(finite_B, [tail, 1 - tail]) if len(finite_B) else (math.nan, math.nan)
    return float(low), float(high)
