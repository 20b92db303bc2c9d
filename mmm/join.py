"""Two objectives made one: each keeps what it says of its own modalities, and in the rest they must agree."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from typing import Any

from . import plugins
from .core.errors import BadRecipe
from .recipe import type_hints

UNASKED = "NoObjective"
"""What a model without an objective has in its place; of its modalities nothing is asked then."""


def join(old: dict[str, Any], new: dict[str, Any], names: Sequence[str], name: str, where: str) -> dict[str, Any]:
    """The objective of a model that has one modality more.

    Arguments that are told by modality (``masking``, ``targets``, ``random``) get one entry more. Where one value stood for all
    and the new modality has another, the old ones get an entry each. Anything else must be the same on both sides.

    Args:
        old: the model's objective, resolved. names: the modalities it has.
        new: that of the recipe of the new modality, resolved, for it alone. name: it. where: the recipe's file, for errors.

    Raises:
        BadRecipe: they differ in a class, or in a value that is one for all; names both.
    """
    at = "model.objective"
    if old["class_path"] == UNASKED and new["class_path"] != UNASKED:
        kept = ", ".join(old["init_args"].get("targets") or {})
        if kept:
            raise BadRecipe(
                f"{where}: a model that grows keeps its heads, and {new['class_path']} has no place for that of {kept}, whose "
                "targets are not here; such a model cannot grow"
            )
        targets = new["init_args"].get("targets")
        if not isinstance(targets, dict):
            raise BadRecipe(f"{where}: {at} is a {new['class_path']}, which does not tell its targets by modality")
        return {**new, "init_args": {**new["init_args"], "targets": {**{key: [] for key in names}, **targets}}}
    return _Join(tuple(names), name, where).of_class(old, new, at)


class _Join:
    """See ``join``."""

    def __init__(self, names: tuple[str, ...], name: str, where: str):
        self.names, self.name, self.where = names, name, where

    def of_class(self, old: dict[str, Any], new: dict[str, Any], at: str) -> dict[str, Any]:
        """Two parts of one class."""
        if old["class_path"] != new["class_path"]:
            raise self._differ(at, old["class_path"], new["class_path"])
        known = type_hints(plugins.find(old["class_path"], None, at).load())
        theirs = new["init_args"]
        return {
            "class_path": old["class_path"],
            "init_args": {
                argument: self.of_value(value, theirs.get(argument), known.get(argument), f"{at}.init_args.{argument}")
                for argument, value in old["init_args"].items()
            },
        }

    def of_value(self, old: Any, new: Any, hint: Any, at: str) -> Any:
        """Two values of one argument."""
        told = any(typing.get_origin(option) is dict for option in (hint, *typing.get_args(hint)))
        if told and self._by_modality(old, self.names) and self._by_modality(new, (self.name,)):
            return {**(old or {}), **(new or {})} or old
        if old == new:
            return old
        if told and not self._otherwise(old, self.names) and not self._otherwise(new, (self.name,)):
            mine = old if self._by_modality(old, self.names) else dict.fromkeys(self.names, old)
            return {**mine, **(new if self._by_modality(new, (self.name,)) else {self.name: new})}
        if all(isinstance(value, dict) and "class_path" in value for value in (old, new)):
            return self.of_class(old, new, at)
        raise self._differ(at, old, new)

    @staticmethod
    def _by_modality(value: Any, names: Sequence[str]) -> bool:
        return value is None or (isinstance(value, dict) and set(value) <= set(names))

    def _otherwise(self, value: Any, names: Sequence[str]) -> bool:
        """Whether it is told by something else than modalities."""
        return isinstance(value, dict) and "class_path" not in value and not self._by_modality(value, names)

    def _differ(self, at: str, old: Any, new: Any) -> BadRecipe:
        return BadRecipe(
            f"{self.where}: {at} is {new!r} for {self.name!r}, and {old!r} in the model that grows, where one stands for all "
            "modalities; give the recipe the model's"
        )
