"""Beginning a run from a pretrained model: its parts in the recipe's place, its weights in the model's."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from . import plugins
from .core.errors import BadRecipe
from .core.modality import Assets, Modality
from .core.model import Model
from .loaded import Loaded
from .sources import Source, open_source

log = logging.getLogger("mmm")

BODY = ("modalities", "encoder", "modality_vector")
"""Parts of a model that every objective shares: what a recipe with an objective of its own takes from its source."""


def begin(values: dict[str, Any], where: str, source: Source | None = None) -> tuple[dict[str, Any], Source]:
    """The recipe with what it leaves open taken from ``init_from``, and the source itself.

    Args:
        values: as read, before defaults are filled in; ``init_from`` is a source, or a mapping of ``source`` and ``new``: the
            modalities that are made anew although the source has one of that name.
        where: the recipe's file, for errors. source: what it names, if it is open.

    Raises:
        ValueError: the source cannot be read; a modality of the data is not in it.
    """
    name, new = _named(values["init_from"], where)
    source = source or open_source(name)
    theirs: dict[str, Any] = source.values["model"]
    model = dict(values.get("model") or {})
    taken = theirs if "objective" not in model else {k: v for k, v in theirs.items() if k in BODY}
    own = model.get("modalities") or {}
    wanted = [*own, *_of_data(values.get("data") or {})]
    for modality in wanted:
        known = {*theirs["modalities"], *(m for m in new if m in own)}
        if modality not in known:
            raise BadRecipe(
                f"{where}: this run has the modality {modality!r}, and {name} has {', '.join(theirs['modalities'])}: "
                "choose another source, or name it in init_from.new and in model.modalities"
            )
    if wanted:
        taken = narrowed(taken, {m for m in theirs["modalities"] if m not in wanted}, set(theirs["modalities"]))
    for modality in new:
        if modality not in own:
            raise BadRecipe(f"{where}: init_from.new names {modality!r}, which model.modalities does not describe")
        taken["modalities"].pop(modality, None)
    merged = {**_merged(taken, model), "adapter": model.get("adapter")}
    merged["objective"] = _with_heads(merged["objective"], theirs["objective"])
    return {**values, "model": merged}, source


def check_fit(values: dict[str, Any], source: Source, where: str) -> None:
    """Refuse a recipe whose own description of a modality is not the source's.

    Args:
        values: the recipe, resolved.

    Raises:
        BadRecipe: names the argument, and its value on both sides.
    """
    _, new = _named(values["init_from"], where)
    for name, here in values["model"]["modalities"].items():
        there = source.values["model"]["modalities"].get(name)
        if there is None or name in new:
            continue
        at = f"{where}: model.modalities.{name}"
        if here["class_path"] != there["class_path"]:
            raise BadRecipe(f"{at} is a {here['class_path']} here and a {there['class_path']} in {source.name}")
        free = plugins.find(here["class_path"], "Modality", at).load().adjustable
        for argument, value in here["init_args"].items():
            other = there["init_args"].get(argument, value)
            if value != other and argument not in free:
                raise BadRecipe(
                    f"{at}.init_args.{argument} is {value!r} here and {other!r} in {source.name}; leave it out to take the "
                    f"source's, or make the modality anew with init_from.new: [{name}]"
                )


class Pretrained:
    """What a fresh run takes from a source; see ``Training.start``.

    Args:
        source: where from. new: modalities that are made anew.
    """

    def __init__(self, source: Source, new: Iterable[str] = ()):
        self.source, self.new = source, frozenset(new)
        self.state = _plain_state(source)
        self.report: dict[str, Any] = {}

    @classmethod
    def of(cls, init_from: Any, source: Source) -> Pretrained:
        """Of a recipe's ``init_from`` and what it names."""
        return cls(source, _named(init_from, "init_from")[1])

    def assets(self, address: str) -> Assets | None:
        """The source's own: vocabularies, statistics, codebooks. A task's labels are learned anew."""
        part = address.split("/")
        if part[:2] == ["targets", "task"] or (part[0] == "modalities" and part[1] in self.new):
            return None
        return self.source.assets.get(address)

    def fill(self, model: Model) -> None:
        """Put the weights in, and say what was loaded, left aside and newly made.

        Raises:
            ValueError: see ``check``.
        """
        self.check(model)
        ours, given = model.state_dict(), self._given(model)
        for name in [n for n in given if n in ours and ours[n].shape != given[n].shape]:
            del given[name]  # a head or a decoder of another size is made anew
        loaded = [n for n in ours if n in given]
        model.load_state_dict({**ours, **{n: given[n] for n in loaded}})
        self.report = {
            "source": self.source.name,
            "loaded": sum(ours[n].numel() for n in loaded),
            "new": sorted(n for n in ours if n not in given),
            "left": sorted(n for n in self.state if n not in loaded),
        }
        log.info("init_from %s: %d parameters loaded", self.source.name, self.report["loaded"])
        for label, key in (("newly made", "new"), ("not taken over", "left")):
            if self.report[key]:
                log.info("init_from %s: %s: %s", self.source.name, label, _grouped(self.report[key]))
        for note in self.source.notes:
            log.info("init_from %s: %s", self.source.name, note)

    def check(self, model: Model) -> None:
        """Compare names and shapes alone, which a model on the meta device has too.

        Raises:
            ValueError: where the encoder or a modality does not fit; names both sides.
        """
        ours, given = model.state_dict(), self._given(model)
        body = [n for n in {*ours, *given} if self._is_body(n, model)]
        faults = [n for n in body if n not in ours or n not in given or ours[n].shape != given[n].shape]
        if faults:
            raise BadRecipe(f"init_from {self.source.name} does not fit: {self._explained(sorted(faults), ours, given)}")

    def _given(self, model: Model) -> dict[str, Tensor]:
        """The source's parameters that can have a place in this model."""
        given = {n: t for n, t in self.state.items() if not n.startswith("heads.task/")}  # another task, other labels
        names = list(self.source.values["model"]["modalities"])
        for name in model.names:
            modality = model.modalities[name]
            assert isinstance(modality, Modality)
            added = modality.extended()
            if added and name not in self.new and modality.assets() != self.source.assets.get(f"modalities/{name}"):
                rows = {len(t) for n, t in given.items() if n.startswith(f"modalities.{name}.embedding")}
                given = {n: _taller(t, added) if _of_ids(n, t, name, rows) else t for n, t in given.items()}
        for table, ours in model.by_modality().items():
            theirs = given.pop(table, None)
            if theirs is not None and theirs.shape[1:] == ours.shape[1:]:
                given[table] = ours.detach().clone()
                for i, name in enumerate(model.names):
                    if name in names:
                        given[table][i] = theirs[names.index(name)]
        return given

    def _is_body(self, name: str, model: Model) -> bool:
        """Whether a parameter must fit: those of the encoder, and of the modalities that both have."""
        part = name.split(".")
        if part[0] == "modalities":
            return part[1] in model.names and part[1] not in self.new
        return part[0] == "encoder"

    def _explained(self, faults: list[str], ours: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> str:
        def shape(state: Mapping[str, Tensor], name: str) -> str:
            return str(tuple(state[name].shape)) if name in state else "absent"

        shown = [f"{n} is {shape(ours, n)} here and {shape(given, n)} there" for n in faults[:3]]
        rest = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
        return "; ".join(shown) + rest + ". Leave model.modalities and model.encoder out of the recipe to take the source's"


def _of_ids(name: str, table: Tensor, modality: str, rows: set[int]) -> bool:
    """Whether a parameter is a table with a row an id: an embedding, or an output as long as the embedding."""
    if name.startswith(f"modalities.{modality}.embedding"):
        return True
    answers = name.rpartition(".")[2] in ("weight", "bias") and ".transform" not in name
    return name.startswith(f"heads.{modality}/") and answers and len(table) in rows


def _taller(table: Tensor, added: Mapping[int, Sequence[int]]) -> Tensor:
    """A table with a row an id, with rows for the ids that were added: each the mean of those it was read as before."""
    grown = torch.cat([table, table.new_zeros(max(0, max(added) + 1 - len(table)), *table.shape[1:])])
    for i, old in added.items():
        grown[i] = table[list(old)].mean(0)
    return grown


def _plain_state(source: Source) -> dict[str, Tensor]:
    """The source's parameters under plain names, without "model."; what an adapter put in is folded into them.

    Raises:
        ValueError: it was trained with an adapter that cannot be folded in.
    """
    if source.values["model"].get("adapter") is None:
        return {n.removeprefix("model."): t for n, t in source.state.items() if n.startswith("model.")}
    return {n: t.detach() for n, t in plain(source).model.state_dict().items()}


def plain(source: Source) -> Loaded:
    """The source's model; what an adapter put in is folded into its weights.

    Raises:
        ValueError: it was trained with an adapter that cannot be folded in.
    """
    training = source.loaded()
    if training.adapter is not None:
        try:
            training.adapter.merge(training.model)
        except ValueError as error:
            raise BadRecipe(f"{source.name}: {error}; begin from a run without it") from error
    return training


def _named(init_from: Any, where: str) -> tuple[str, list[str]]:
    """(source, modalities made anew) of a recipe's ``init_from``."""
    if isinstance(init_from, str) and init_from:
        return init_from, []
    if isinstance(init_from, dict) and isinstance(init_from.get("source"), str) and set(init_from) <= {"source", "new"}:
        new = init_from.get("new") or []
        if isinstance(new, list) and all(isinstance(n, str) for n in new):
            return init_from["source"], new
    raise BadRecipe(
        f"{where}: init_from is {init_from!r}; expected a source (a run folder, a checkpoint, a folder or name of another "
        "library), or source: and new: [modalities]"
    )


def _of_data(data: Mapping[str, Any]) -> list[str]:
    """Modalities that a recipe's data section has."""
    from .data.cards import load_card

    files = [m for key in ("files", "test") if isinstance(data.get(key), dict) for m in data[key]]
    cards = data.get("cards")
    return files + [load_card(c).modality for c in (cards if isinstance(cards, dict) else ())]


def _merged(base: Any, over: Any) -> Any:
    """``over`` laid upon ``base``, key by key; another class replaces the whole."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    if "class_path" in over and over["class_path"] != base.get("class_path"):
        return over
    return {k: _merged(base.get(k), over[k]) if k in over else base[k] for k in [*base, *(k for k in over if k not in base)]}


def narrowed(value: Any, without: set[str], modalities: set[str]) -> Any:
    """The same without some modalities, wherever something is said for each by its name."""
    if isinstance(value, dict):
        if value and set(value) <= modalities:
            value = {k: v for k, v in value.items() if k not in without}
        return {k: narrowed(v, without, modalities) for k, v in value.items()}
    return value


def _with_heads(objective: Any, theirs: Any) -> Any:
    """An objective that answers through the source's own masked head, and does not say of what kind that is, takes its kind."""
    value = {"class_path": objective} if isinstance(objective, str) else objective
    if not isinstance(value, dict) or "class_path" not in value:
        return objective
    given, kinds = value.get("init_args") or {}, theirs["init_args"].get("heads") or {}
    accepts = inspect.signature(plugins.find(value["class_path"], "Objective", "model.objective").load()).parameters
    name = given.get("modality") or next(iter(kinds), None)
    if "head" in accepts and "head" not in given and name in kinds:
        return {**value, "init_args": {**given, "head": kinds[name]}}
    return objective


def _grouped(names: list[str]) -> str:
    """Parameters by the module that holds them, a few named."""
    modules = sorted({n.rpartition(".")[0] or n for n in names})
    return ", ".join(modules[:6]) + (f" and {len(modules) - 6} more modules" if len(modules) > 6 else "")
