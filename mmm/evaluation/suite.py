"""Suites: named, versioned lists of tasks, frozen so that a figure means the same tomorrow. Nothing here needs torch.

A suite is ``suites/<name>-v<version>.yaml``; a changed one is a new file with the next version, and the old one stays.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmm.core.errors import BadRecipe, did_you_mean
from mmm.yaml import load

FOLDER = Path(__file__).parent / "suites"
NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@dataclass(frozen=True)
class Source:
    """Data of a suite.

    Args:
        reader: a module of ``readers``. arguments: its. needs: what to give, for people. card: a data card that holds them.
        modality: of the records; None: the model's only one. beside: the name of other data that lie at the same place.
    """

    reader: str
    needs: str
    modality: str | None = None
    card: str | None = None
    beside: str | None = None
    arguments: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Task:
    """One figure of a suite.

    Args:
        measure: a module of ``measures``. data: name of a ``Source``. arguments: of the measure.
        reference: a figure of the literature or of a simple baseline on these data, for people.
    """

    measure: str
    data: str
    arguments: Mapping[str, Any] | None = None
    reference: str = ""


@dataclass(frozen=True)
class Suite:
    """Tasks and the data they need.

    Args:
        name, version, title: who it is. seeds: of splits and subsamples. data, tasks: by name.
    """

    name: str
    version: int
    title: str
    seeds: tuple[int, ...]
    data: Mapping[str, Source]
    tasks: Mapping[str, Task]

    def digest(self) -> str:
        """What the figures follow from, as sha256: tasks and data with all arguments, those left at their defaults too."""
        content = {
            "seeds": self.seeds,
            "tasks": {n: (t.measure, t.data, arguments(measure(t.measure), t.arguments)) for n, t in self.tasks.items()},
            "data": {n: (d.reader, d.modality, d.card, arguments(reader(d.reader), d.arguments)) for n, d in self.data.items()},
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def suites() -> dict[str, Path]:
    """The newest version of every suite, by name."""
    found = {}
    for path in sorted(FOLDER.glob("*.yaml"), key=lambda p: int(p.stem.rpartition("-v")[2])):
        found[path.stem.rpartition("-v")[0]] = path
    return dict(sorted(found.items()))


def find(word: str) -> Suite:
    """The suite of this name (``blimp``, or ``blimp-v1`` for a version), or of a file of one's own.

    Raises:
        BadRecipe: there is none, or it does not follow the schema.
    """
    if word.endswith((".yaml", ".yml")):
        return read(Path(word))
    path = suites().get(word, FOLDER / f"{word}.yaml")
    if not NAME.fullmatch(word) or not path.is_file():
        raise BadRecipe(f"no suite {word!r}. {did_you_mean(word, suites())} A file of your own ends in .yaml")
    return read(path)


def read(path: Path) -> Suite:
    """A suite of a file.

    Raises:
        BadRecipe: names the file and the key that is missing, unknown or of the wrong kind.
    """
    values = load(path)
    suite = _made(Suite, values, str(path))
    if not (isinstance(suite.name, str) and NAME.fullmatch(suite.name) and isinstance(suite.version, int)):
        raise BadRecipe(
            f"{path}: name is lower case with hyphens and version a whole number, not {suite.name!r}, {suite.version!r}"
        )
    if not (isinstance(suite.seeds, list) and suite.seeds and all(isinstance(s, int) for s in suite.seeds)):
        raise BadRecipe(f"{path}: seeds is a list of whole numbers, not {suite.seeds!r}")
    data = {n: _made(Source, v, f"{path}, data {n}") for n, v in _mapping(suite.data, f"{path}, data").items()}
    tasks = {n: _made(Task, v, f"{path}, task {n}") for n, v in _mapping(suite.tasks, f"{path}, tasks").items()}
    for name in (*data, *tasks):
        if not NAME.fullmatch(str(name)):
            raise BadRecipe(f"{path}: names of data and tasks are lower case with hyphens, not {name!r}")
    for name, task in tasks.items():
        if task.data not in data:
            raise BadRecipe(f"{path}, task {name}: no data {task.data!r}. {did_you_mean(str(task.data), data)}")
        arguments(measure(task.measure), task.arguments)
    for name, source in data.items():
        if source.beside is not None and source.beside not in data:
            raise BadRecipe(f"{path}, data {name}: no data {source.beside!r}. {did_you_mean(source.beside, data)}")
        arguments(reader(source.reader), source.arguments)
    return Suite(suite.name, suite.version, suite.title, tuple(suite.seeds), data, tasks)


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        raise BadRecipe(f"{where}: expected `name: ...` lines, found {value!r:.60}")
    return value


def _made(kind: type[Any], value: Any, where: str) -> Any:
    value = _mapping(value, where)
    known = inspect.signature(kind).parameters
    for key in value.keys() - known.keys():
        raise BadRecipe(f"{where}: no key {key!r}. {did_you_mean(key, known)}")
    for key, parameter in known.items():
        if parameter.default is parameter.empty and key not in value:
            raise BadRecipe(f"{where}: the key {key!r} is missing")
    return kind(**value)


def measure(name: str) -> Callable[..., Any]:
    """A measure by the name of its file. Raises BadRecipe where there is none."""
    return _function("measures", name, "measure")


def reader(name: str) -> Callable[..., Any]:
    """A reader by the name of its file. Raises BadRecipe where there is none."""
    return _function("readers", name, "read")


def _function(package: str, name: str, function: str) -> Callable[..., Any]:
    module = importlib.import_module(f"mmm.evaluation.{package}")
    known = sorted(m.name for m in pkgutil.iter_modules(module.__path__))
    if name not in known:
        raise BadRecipe(f"no {function} {name!r}. {did_you_mean(str(name), known)}")
    return getattr(importlib.import_module(f"{module.__name__}.{name}"), function)  # type: ignore[no-any-return]


def arguments(function: Callable[..., Any], given: Mapping[str, Any] | None) -> dict[str, Any]:
    """All arguments a suite may set, with those that are given and the defaults of the others.

    Raises:
        BadRecipe: one is unknown, or one without a default is missing.
    """
    fixed = ("frozen", "data", "seeds", "given")
    known = {n: p.default for n, p in inspect.signature(function).parameters.items() if n not in fixed}
    where, values = function.__module__.rpartition(".")[2], dict(given or {})
    for name in values.keys() - known.keys():
        raise BadRecipe(f"{where}: no argument {name!r}. {did_you_mean(name, known)}")
    for name in known:
        if known[name] is inspect.Parameter.empty and name not in values:
            raise BadRecipe(f"{where}: the argument {name!r} is missing")
    return known | values
