"""Recipes: from a YAML file and overrides to checked values, and from those to objects.

The walk below follows the constructors' own type hints. It is what answers a misspelt class or key with the choices, fills
defaults in, and lets nothing but indexed classes be imported. jsonargparse, through LightningCLI, then checks every value's
type and builds the objects.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import types
import typing
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import plugins
from .core.errors import BadRecipe, did_you_mean
from .overrides import parse_overrides, set_value
from .yaml import load

if TYPE_CHECKING:
    from .core.training import Training
    from .sources import Source

TOP = ("plugins", "seed", "init_from", "adapter", "model", "data", "trainer")
TRAINER_OWN = ("callbacks", "logger", "default_root_dir", "plugins", "enable_checkpointing", "use_distributed_sampler")


@dataclass
class Recipe:
    """A recipe with every default filled in and every class called by its bare name.

    Args:
        name: of the recipe; names the run folder. values: what it says. source: what it begins from, opened.
    """

    name: str
    values: dict[str, Any]
    source: Source | None = None


def read(path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe and apply ``--a.b.c value`` overrides.

    Raises:
        BadRecipe: naming the file, the place, the value and the choices.
    """
    values = load(path)
    pairs = parse_overrides(overrides)
    adapter = next((value for key, value in reversed(pairs) if key == "adapter"), values.get("adapter"))
    for key, value in [*_rung(adapter, str(path)), *pairs]:
        set_value(values, key, value)
    return settled(values, Path(path).stem, str(path))


def settled(values: dict[str, Any], name: str, where: str, source: Source | None = None) -> Recipe:
    """The recipe that these values make, with what ``init_from`` names taken from there.

    Args:
        values: as read. name: of the recipe. where: its file, for errors. source: what ``init_from`` names, if it is open.

    Raises:
        BadRecipe: naming the file, the place, the value and the choices.
    """
    if values.get("init_from") is None:
        return Recipe(name, resolve(values, where))
    from .start import begin, check_fit

    _known(values, TOP, where, "")
    plugins.require(values.get("plugins"), where)  # before what they hold is missed
    if isinstance(values.get("model"), dict) and "optimizer" in values["model"]:
        # Before it is laid upon the source's, which may be of another class.
        values = {**values, "model": _with_optimizer(values["model"])}
    values, source = begin(values, where, source)
    values = resolve(values, where)
    check_fit(values, source, where)
    return Recipe(name, values, source)


def ladder() -> dict[str, Any]:
    """The fine-tuning ladder: what ``adapter: NAME`` sets, by name."""
    return load(Path(__file__).parent / "adapters" / "presets.yaml")


def _rung(name: Any, where: str) -> list[tuple[str, Any]]:
    """The overrides that ``adapter: NAME`` stands for."""
    if name is None:
        return []
    rungs = ladder()
    if name not in rungs:
        raise BadRecipe(f"{where}: no adapter {name!r}. {did_you_mean(str(name), rungs)}")
    return list((rungs[name].get("set") or {}).items())


def resolve(values: dict[str, Any], where: str) -> dict[str, Any]:
    """Check every name of a recipe and fill in the defaults, the packages of the classes it names among them."""
    from .core.model import fault_of_name
    from .core.training import Training
    from .data.module import Data
    from .trainer import LightningTrainer, Trainer

    _known(values, TOP, where, "")
    wanted = plugins.require(values.get("plugins"), where)
    trainer, model = values.get("trainer") or {}, values.get("model") or {}
    _known(trainer, {**_arguments(Trainer), **_arguments(LightningTrainer)}, where, "trainer")
    _known(model, _arguments(Training), where, "model")
    if values.get("init_from") is None and not {"modalities", "encoder"} & set(model):
        raise BadRecipe(
            f"{where}: model.modalities is missing; a recipe without it begins from a pretrained model: give --init_from "
            "SOURCE (a run folder, ...)"
        )
    modalities = model.get("modalities")
    for fault in map(fault_of_name, modalities if isinstance(modalities, dict) else ()):
        if fault:
            raise BadRecipe(f"{where}: model.modalities: {fault}")
    for key in TRAINER_OWN:
        if key in trainer:
            raise BadRecipe(f"{where}: trainer.{key} is set by the run itself and cannot stand in a recipe")
    model = _with_optimizer(model)
    seed = values.get("seed", 0)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise BadRecipe(f"{where}: seed is {seed!r}; expected a whole number")
    resolved = {
        "plugins": list(wanted),
        "seed": seed,
        **{key: values[key] for key in ("init_from", "adapter") if values.get(key) is not None},
        "model": _arguments_of(Training, {"decoder": "Readout", **model}, where, "model", skip=("seed",)),
        "data": _arguments_of(Data, values.get("data") or {}, where, "data"),
        "trainer": dict(trainer),
    }
    _no_class_path(trainer, where, "trainer")
    resolved["plugins"] += [p for p in plugins.needed(resolved["model"]) if not any(plugins.same(p, w) for w in wanted)]
    return resolved


def _with_optimizer(model: dict[str, Any]) -> dict[str, Any]:
    """Numbers alone are AdamW's."""
    optimizer = model.get("optimizer") or {}
    if not isinstance(optimizer, dict) or "class_path" in optimizer:
        return model
    return {**model, "optimizer": {"class_path": "AdamW", "init_args": optimizer}}


def qualify(value: Any) -> Any:
    """The same values with every class called by its full name, for jsonargparse."""
    if isinstance(value, dict):
        if "class_path" in value:
            entry = plugins.find(value["class_path"], None, "recipe")
            return {"class_path": f"{entry.module}.{entry.name}", "init_args": qualify(value.get("init_args") or {})}
        return {k: qualify(v) for k, v in value.items()}
    return [qualify(v) for v in value] if isinstance(value, list) else value


def instantiate(recipe: Recipe, cls: type[Training] | None = None) -> Training:
    """The Training of a recipe alone, without data or a trainer.

    Args:
        cls: Training itself, or a class of it that takes the same arguments.

    Raises:
        BadRecipe: where a value is of the wrong type or a constructor refuses it.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    from .core.training import Training

    _only_the_index()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls or Training, "model")
    try:
        values = parser.parse_object({"model": {**qualify(recipe.values["model"]), "seed": recipe.values["seed"]}})
        return parser.instantiate_classes(values).model  # type: ignore[no-any-return]
    except (ArgumentError, TypeError, ValueError) as error:
        raise BadRecipe(f"{recipe.name}: {_one_line(str(error))}") from error


def build(recipe: Recipe, trainer: dict[str, Any] | None = None) -> Any:
    """The LightningCLI that holds ``model``, ``datamodule`` and ``trainer`` of a recipe.

    Args:
        trainer: arguments of the Trainer that the run sets where the recipe does not (callbacks, logger, ...).

    Raises:
        BadRecipe: where a value is of the wrong type or a constructor refuses it.
    """
    import torch
    from jsonargparse import ArgumentError
    from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    from .core.draw import Draw
    from .core.training import Training
    from .data.module import Data
    from .trainer import Trainer

    class CLI(LightningCLI):
        def instantiate_trainer(self, **kwargs: Any) -> Any:
            own = {k: v for k, v in (trainer or {}).items() if k not in recipe.values["trainer"]}
            return super().instantiate_trainer(**own, **kwargs)

    values = {k: qualify(recipe.values[k]) for k in ("model", "data", "trainer")}
    values["model"]["seed"] = recipe.values["seed"]
    _quiet()
    _only_the_index()
    # Parts that make parameters as they are constructed take them from the recipe's seed too.
    torch.manual_seed(Draw(recipe.values["seed"]).stream("construct").seed())
    try:
        return CLI(
            Training,
            Data,
            trainer_class=Trainer,
            run=False,
            args=values,
            save_config_callback=None,
            seed_everything_default=False,
            parser_class=LightningArgumentParser,
            parser_kwargs={"exit_on_error": False},
        )
    except (ArgumentError, MisconfigurationException, TypeError, ValueError) as error:
        if isinstance(error, BadRecipe):
            raise
        raise BadRecipe(f"{recipe.name}: {_one_line(str(error))}") from error


def _only_the_index() -> None:
    """jsonargparse imports what a value names like a class; let it reach the packages of the index and no other."""
    from jsonargparse import set_parsing_settings

    packages = sorted({entry.module.partition(".")[0] for entry in plugins.index().values()})
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=packages)


def _quiet() -> None:
    """Lightning's own hints do not concern who runs a recipe: its warnings about loaders and arguments are answered here."""
    for noise in (
        ".*LightningCLI's args parameter.*",
        ".*does not have many workers.*",
        ".*IterableDataset.*__len__.*",
        ".*isinstance\\(treespec, LeafSpec\\).*",
        ".*You have overridden `transfer_batch_to_device`.*",
        ".*Checkpoint directory .* exists and is not empty.*",
    ):
        warnings.filterwarnings("ignore", noise)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)


# -- the walk ------------------------------------------------------------------------------------------------------------------


def _arguments(cls: type) -> dict[str, inspect.Parameter]:
    parameters = dict(inspect.signature(cls).parameters)
    return {n: p for n, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


def type_hints(cls: type) -> dict[str, Any]:
    """The types of a constructor's arguments."""
    target = cls if dataclasses.is_dataclass(cls) else cls.__init__  # type: ignore[misc]
    return typing.get_type_hints(target)


def _known(mapping: Any, choices: Iterable[str], where: str, path: str) -> None:
    if not isinstance(mapping, dict):
        raise BadRecipe(f"{where}: {path or 'the recipe'} is {mapping!r}; expected key: value lines")
    for key in mapping:
        if key not in choices:
            raise BadRecipe(f"{where}: no key {'.'.join(filter(None, (path, str(key))))!r}. {did_you_mean(key, choices)}")


def _arguments_of(cls: type, given: Any, where: str, path: str, skip: Iterable[str] = ()) -> dict[str, Any]:
    """The arguments of one constructor, checked and completed."""
    parameters = {n: p for n, p in _arguments(cls).items() if n not in skip}
    _known(given, parameters, where, path)
    hints = type_hints(cls)
    made: dict[str, Any] = {}
    for name, parameter in parameters.items():
        at = f"{path}.{name}"
        if name in given:
            made[name] = _walk(given[name], hints.get(name, Any), where, at)
        elif parameter.default is inspect.Parameter.empty:
            raise BadRecipe(f"{where}: {at} is missing; {cls.__name__} needs it")
        else:
            made[name] = _plain(parameter.default)
    return made


def _walk(value: Any, hint: Any, where: str, path: str) -> Any:
    """One value under its type hint."""
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    roles = [o for o in options if inspect.isclass(o) and inspect.isabstract(o) and hasattr(o, "__module__")]
    names_class = isinstance(value, dict) and "class_path" in value
    if roles and (names_class or (isinstance(value, str) and str not in options)):
        return _object(value, roles[0], where, path)
    for option in options:
        origin, inner = typing.get_origin(option), typing.get_args(option)
        if origin is dict and isinstance(value, dict):
            return {k: _walk(v, inner[1], where, f"{path}.{k}") for k, v in value.items()}
        if origin is list and isinstance(value, list):
            return [_walk(v, inner[0], where, f"{path}[{i}]") for i, v in enumerate(value)]
        if dataclasses.is_dataclass(option) and isinstance(option, type):
            if isinstance(value, dict):
                return _arguments_of(option, value, where, path)
            if value is not None and len([o for o in options if o is not type(None)]) == 1:
                raise BadRecipe(f"{where}: {path} is {value!r}; expected key: value lines, of {', '.join(_arguments(option))}")
    _no_class_path(value, where, path)
    return value


def _object(value: Any, role: type, where: str, path: str) -> dict[str, Any]:
    """A class and its arguments."""
    if isinstance(value, str):
        value = {"class_path": value}
    _known(value, ("class_path", "init_args"), where, path)
    entry = plugins.find(str(value["class_path"]), role.__name__, f"{where}: {path}")
    given = value.get("init_args") or {}
    return {"class_path": entry.name, "init_args": _arguments_of(entry.load(), given, where, f"{path}.init_args")}


def _no_class_path(value: Any, where: str, path: str) -> None:
    if isinstance(value, dict):
        if "class_path" in value:
            raise BadRecipe(f"{where}: {path} names a class, {value['class_path']!r}, where only plain values can stand")
        for key, inner in value.items():
            _no_class_path(inner, where, f"{path}.{key}")
    elif isinstance(value, list):
        for inner in value:
            _no_class_path(inner, where, path)


def _plain(default: Any) -> Any:
    if dataclasses.is_dataclass(default) and not isinstance(default, type):
        return dataclasses.asdict(default)
    return list(default) if isinstance(default, tuple) else default


def _one_line(text: str) -> str:
    line = " ".join(line.strip() for line in text.splitlines() if line.strip())
    return line if len(line) <= 600 else f"{line[:380]} ... {line[-200:]}"  # the value stands at the end
