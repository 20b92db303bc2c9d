"""What is learned: an objective makes views, asks the model, and scores the answers.

Shape suffixes: N asked tokens, V output size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from .draw import Draw
from .modality import Record
from .model import Model
from .target import Target
from .tokens import Tokens
from .view import View


@dataclass
class Term:
    """A sum and what it is a sum over; never a mean. The loss is the sum of weight x total / global count."""

    name: str
    total: Tensor
    count: float
    weight: float = 1.0


@dataclass
class Answer:
    """What the model said of one modality's asked tokens.

    Args:
        name: the modality. target: what was asked. head: the address of the head that answered.
        answer_N: places on the clean axis. output_NV, truth_N, loss_N: as the target defines them; weight_N: of the view.
    """

    name: str
    target: Target
    head: str
    answer_N: Tensor
    output_NV: Tensor
    truth_N: Tensor
    loss_N: Tensor
    weight_N: Tensor


@dataclass
class Prediction:
    """What the model said of one record's label; numbers are on the host, as the objective's metric compares them.

    Args:
        record: it. said, label: the answer and the truth in the user's own words.
        answer, truth: one entry, one a class, or one a token. guess: what is said without a look at the record.
        score: how sure the answer is, where there is a number for it.
    """

    record: Record
    said: str
    label: str
    answer: Tensor
    truth: Tensor
    guess: Tensor
    score: float | None = None


class Objective(nn.Module, ABC):
    """Owns all that a paper adds: targets, heads, a teacher, a generator, a schedule, a queue.

    Attributes:
        metric: what its predictions of labels are judged by; None where it predicts none.
    """

    metric: str | None = None

    @abstractmethod
    def setup(self, model: Model) -> None:
        """Meet the built model: check what is needed, bind targets, make heads, copy a teacher."""

    def targets(self) -> dict[str, Target]:
        """Targets that are fitted before training, by a name that stays; see Target.fit."""
        return {}

    def build(self, model: Model) -> None:
        """Make what waits for fitted targets: heads whose size is known only now. Nothing by default."""

    @abstractmethod
    def views(self, tokens: Tokens, progress: float, draw: Draw) -> list[View]:
        """The views of one batch, made on the host before anything runs."""

    @abstractmethod
    def counts(self, tokens: Tokens, views: Sequence[View]) -> dict[str, float]:
        """What each Term of ``forward`` will count on this batch: every name, always, in one order on every rank."""

    @abstractmethod
    def forward(self, model: Model, tokens: Tokens, views: Sequence[View], progress: float) -> list[Term]:
        """The terms of one batch, named and ordered as in ``counts``."""

    def answers(self, model: Model, tokens: Tokens, views: Sequence[View]) -> list[Answer]:
        """Predictions one by one, for validation and reports; an objective without any returns none."""
        return []

    def check(self, record: Record) -> None:
        """Look at a record before anything is learned. Raises BadRecord where its label cannot be used."""

    def remember(self, model: Model, batches: Iterable[Tokens], draw: Draw) -> bool:
        """Look at the training records once more, for predictions that are made of them. Returns whether there are such."""
        return False

    def predictions(self, model: Model, tokens: Tokens, views: Sequence[View]) -> list[Prediction]:
        """Predictions of labels, record by record; an objective without a metric makes none."""
        return []

    def after_step(self, model: Model, progress: float) -> None:
        """Called after every optimiser step (EMA, queue)."""
