"""Several objectives at once.

Shape suffixes: none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from torch import nn

from mmm.core.draw import Draw
from mmm.core.errors import did_you_mean
from mmm.core.modality import Record
from mmm.core.model import Model
from mmm.core.objective import Answer, Objective, Prediction, Term
from mmm.core.target import Target
from mmm.core.tokens import Tokens
from mmm.core.view import View


class Sum(Objective):
    """The weighted sum of objectives, each with views of its own: a task beside the masked model it began from.

    Heads keep the addresses they have alone, so that pretrained ones are found. Of the objectives, one at most may predict
    labels; it is told last.

    Paper: UDALM, arXiv:2104.07078 (a task on labelled records and a masked model on those of the new domain, which have no
    label: ``skip_unlabelled``).

    Args:
        objectives: by a name of one's own. weights: on the losses, by the same names; 1 where none is named.
    """

    def __init__(self, objectives: dict[str, Objective], weights: dict[str, float] | None = None):
        super().__init__()
        for name in weights or {}:
            if name not in objectives:
                raise ValueError(f"Sum weights: no objective {name!r}. {did_you_mean(name, objectives)}")
        tasks = [name for name, objective in objectives.items() if objective.metric is not None]
        if len(tasks) > 1:
            raise ValueError(f"Sum: {' and '.join(tasks)} both predict labels, but a record has one label; keep one of them")
        last = {name: objectives[name] for name in tasks}
        self.parts = nn.ModuleDict({n: o for n, o in objectives.items() if n not in last} | last)
        self.weights = weights or {}
        self.metric = objectives[tasks[0]].metric if tasks else None
        self._task = tasks[0] if tasks else ""
        self._views: dict[str, int] = {}  # of each objective, the same in every batch

    @property
    def objectives(self) -> dict[str, Objective]:
        return dict(self.parts.items())  # type: ignore[arg-type]

    def setup(self, model: Model) -> None:
        """Raises ValueError where two objectives make the same head."""
        for name, objective in self.objectives.items():
            before = dict(model.heads)
            objective.setup(model)
            self._check(name, model, before)

    def build(self, model: Model) -> None:
        for name, objective in self.objectives.items():
            before = dict(model.heads)
            objective.build(model)
            self._check(name, model, before)

    def _check(self, name: str, model: Model, before: dict[str, nn.Module]) -> None:
        for address, head in before.items():
            if model.heads[address] is not head:
                raise ValueError(f"Sum: {name} and an objective before it answer at one head, {address}; keep one of them")

    def targets(self) -> dict[str, Target]:
        return {address: target for objective in self.objectives.values() for address, target in objective.targets().items()}

    def views(self, tokens: Tokens, progress: float, draw: Draw) -> list[View]:
        made = {n: o.views(tokens, progress, draw) for n, o in self.objectives.items()}
        self._views = {name: len(views) for name, views in made.items()}
        return [view for views in made.values() for view in views]

    def _split(self, views: Sequence[View]) -> dict[str, Sequence[View]]:
        """The views of each objective."""
        split, at = {}, 0
        for name, number in self._views.items():
            split[name] = views[at : at + number]
            at += number
        assert at == len(views), "an objective makes the same number of views of every batch"
        return split

    def counts(self, tokens: Tokens, views: Sequence[View]) -> dict[str, float]:
        split = self._split(views)
        return {t: c for n, o in self.objectives.items() for t, c in o.counts(tokens, split[n]).items()}

    def forward(self, model: Model, tokens: Tokens, views: Sequence[View], progress: float) -> list[Term]:
        split = self._split(views)
        return [
            replace(term, weight=term.weight * self.weights.get(name, 1.0))
            for name, objective in self.objectives.items()
            for term in objective(model, tokens, split[name], progress)
        ]

    def answers(self, model: Model, tokens: Tokens, views: Sequence[View]) -> list[Answer]:
        split = self._split(views)
        return [answer for n, o in self.objectives.items() for answer in o.answers(model, tokens, split[n])]

    def check(self, record: Record) -> None:
        for objective in self.objectives.values():
            objective.check(record)

    def remember(self, model: Model, batches: Iterable[Tokens], draw: Draw) -> bool:
        return bool(self._task) and self.objectives[self._task].remember(model, batches, draw)

    def predictions(self, model: Model, tokens: Tokens, views: Sequence[View]) -> list[Prediction]:
        split = self._split(views)
        return self.objectives[self._task].predictions(model, tokens, split[self._task]) if self._task else []

    def after_step(self, model: Model, progress: float) -> None:
        for objective in self.objectives.values():
            objective.after_step(model, progress)
