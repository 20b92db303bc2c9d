"""A suite on a model: every task that can be run, and why the others cannot."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from mmm.core.errors import BadRecipe, did_you_mean
from mmm.data.cards import Card, find_cards, load_card

from .dataset import Dataset, Given
from .features import Frozen
from .opening import digest
from .outcome import Outcome
from .suite import Suite, Task, arguments, measure, reader

log = logging.getLogger("mmm")

Paths = dict[str, Path]
"""Where data lie: under "" both sides, or under "train" and "test"."""


@dataclass(frozen=True)
class Done:
    """A task that was run.

    Args:
        task: it. paths: where its data lie. digest: of those files. outcome, seeds, seconds: what was found, and how.
    """

    task: Task
    paths: Paths
    digest: str
    outcome: Outcome
    seeds: tuple[int, ...]
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """All of a suite.

    Args:
        suite: it. source: what the user called the model. done: by task. left_out: why a task was not run, by task.
    """

    suite: Suite
    source: str
    done: dict[str, Done] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def evaluate(source: str, suite: Suite, given: Mapping[str, Paths], modality: str | None = None) -> Evaluation:
    """Run the tasks of a suite on a frozen model.

    Args:
        source: what ``mmm.load`` takes. given: paths by the name of data, or of a task. modality: of data that name none.

    Raises:
        ValueError: the model cannot be loaded, a name in ``given`` is unknown, or no task has data.
    """
    names = [*suite.data, *suite.tasks]
    for name in given:
        if name not in names:
            raise BadRecipe(f"--data.{name}: the suite {suite.name} has no such data. {did_you_mean(name, suite.data)}")
    places = {name: _place(name, suite, given) for name in suite.tasks}
    if all(isinstance(place, BadRecipe) for place in places.values()):
        raise BadRecipe(f"no task of the suite {suite.name} has data: {'; '.join(dict.fromkeys(map(str, places.values())))}")
    from mmm.loading import load

    model = load(source).requires_grad_(False)
    if torch.cuda.is_available():
        model = model.cuda()
    caches: dict[Any, dict[Any, Any]] = {}  # keys of records say who they are in one place only
    datasets: dict[Any, tuple[Dataset, str]] = {}
    result = Evaluation(suite, source)
    for name, task in suite.tasks.items():
        data, start = suite.data[task.data], time.monotonic()
        try:
            paths = _paths(places[name])
            frozen = Frozen(model, data.modality or modality, caches.setdefault(tuple(paths.items()), {}))
            address = (task.data, tuple(paths.items()))
            if address not in datasets:
                place = Given(paths, frozen.tokenizer)
                read = reader(data.reader)(place, **arguments(reader(data.reader), data.arguments))
                datasets[address] = read, digest(paths.values())
            dataset, its_digest = datasets[address]
            run = measure(task.measure)
            outcome: Outcome = run(frozen, dataset, suite.seeds, **arguments(run, task.arguments))
        except (ValueError, OSError) as error:
            result.left_out[name] = " ".join(str(error).split())
            continue
        outcome = replace(outcome, notes=[*dataset.notes, *outcome.notes])
        done = Done(task, paths, its_digest, outcome, tuple(outcome.by_seed), time.monotonic() - start)
        result.done[name] = done
        log.info("%s: %s %.3f (%.1f s)", name, outcome.metric, outcome.value, done.seconds)
    return result


def _place(name: str, suite: Suite, given: Mapping[str, Paths]) -> Paths | Card | BadRecipe:
    """Where the data of a task lie: as given for the task, for its data, or for those beside them; else the data's card.

    What to give is returned, not raised: other tasks may have data.
    """
    task = suite.tasks[name]
    data = suite.data[task.data]
    for key in (name, task.data, data.beside):
        if key in given:
            return given[key]  # type: ignore[index]
    give = f"give --data.{data.beside or task.data} PATH: {data.needs}"
    if data.card is None or data.card not in find_cards():
        return BadRecipe(give)
    card = load_card(data.card)
    if card.prepared() or card.preparer is not None:
        return card
    return BadRecipe(f"{give}; or fetch the data of the card, `mmm data prepare {card.name}` says how")


def _paths(place: Paths | Card | BadRecipe) -> Paths:
    """Data of a card are made now, where that can be done without a network. Raises BadRecipe where there are none."""
    if isinstance(place, BadRecipe):
        raise place
    if isinstance(place, Card):
        if not place.prepared():
            log.info("card %r: %s", place.name, place.prepare())
        return {"": place.root()}
    return place
