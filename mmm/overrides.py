"""Overrides of a recipe's values, as they are written on the command line."""

from __future__ import annotations

import difflib
import inspect
import shlex
from collections.abc import Iterable, Iterator
from typing import Any

from .core.errors import BadRecipe
from .yaml import loads

TEXTS = ("data.files.", "data.test.", "data.joint", "init_from")
"""Keys whose values are names, those of digits too: a folder may be called ``2024``."""


def parse_overrides(words: Iterable[str]) -> list[tuple[str, Any]]:
    """``--a.b value`` and ``--a.b=value`` pairs; values are read as YAML, and as plain text where they are none.

    Raises:
        BadRecipe: a word that is no option, an option without a value, files without the modality they are of.
    """
    pairs: list[tuple[str, Any]] = []
    words = list(words)
    while words:
        word = words.pop(0)
        if not word.startswith("--") or len(word) == 2:
            raise BadRecipe(f"{word!r} is not an option; overrides are written --model.encoder.depth 6")
        key, has_value, value = word[2:].partition("=")
        if not has_value:
            if not words or words[0].startswith("--"):
                raise BadRecipe(f"--{key}: needs a value; choices of plain options are listed by mmm run --help")
            value = words.pop(0)
        pairs.append((key, _value(key, value)))
        if key in ("data.files", "data.test") and not isinstance(pairs[-1][1], (dict, type(None))):
            raise BadRecipe(f"--{key}: of which modality? Write --{key}.NAME {shlex.quote(value)}")
    return pairs


def check_keys(words: Iterable[str], options: Iterable[str]) -> None:
    """Look for options that are neither the command's nor a recipe's, but like the last word of a recipe's key.

    Args:
        words: of the command line that the command does not know. options: those it does.

    Raises:
        BadRecipe: naming the whole keys.
    """
    from .recipe import TOP

    for word in words:
        first = word[2:].partition("=")[0].partition(".")[0]
        if not word.startswith("--") or not first or first in TOP:
            continue
        keys = list(dict.fromkeys([*options, *_keys()]))
        last = [key.rpartition(".")[2] for key in keys]
        near = [first] if first in last else difflib.get_close_matches(first, last, 1, 0.75)
        meant = [f"--{key}" for key, end in zip(keys, last, strict=True) if end in near]
        if meant:
            raise BadRecipe(f"no option --{first}; did you mean {' or '.join(meant)}?")


def _keys() -> Iterator[str]:
    """The keys of every recipe, whatever classes it names."""
    from lightning.pytorch import Trainer as LightningTrainer

    from .core.optimizer import Optimizer
    from .core.training import Training
    from .data.module import Data
    from .trainer import Trainer

    places = {"model": Training, "data": Data, "model.optimizer": Optimizer}
    for place, cls in [*places.items(), ("trainer", Trainer), ("trainer", LightningTrainer)]:
        yield from (f"{place}.{name}" for name in inspect.signature(cls).parameters)


def _value(key: str, word: str) -> Any:
    """What a word stands for. Comments and further lines are a file's; here ``corpus #1`` is a name."""
    try:
        values = loads(f"value: {word}", key)
    except BadRecipe:
        return word
    value = values["value"]
    if len(values) > 1:
        return word
    if isinstance(value, str):
        return value if word.lstrip()[:1] in ("'", '"') else word
    if isinstance(value, (dict, list)):
        return value
    named = value is not None and key.startswith(TEXTS)
    return word if named or "#" in word else value


def set_value(values: dict[str, Any], key: str, value: Any) -> None:
    """Set ``a.b.c`` in nested mappings. Another class drops the arguments of the one it replaces; ``init_args`` may be left
    out of the key."""
    word, _, rest = key.partition(".")
    if "class_path" in values and word not in ("class_path", "init_args"):
        word, rest = "init_args", key
    if not rest:
        if word == "class_path" and values.get("class_path") != value:
            values.pop("init_args", None)
        values[word] = value
        return
    inner = values.get(word)
    if isinstance(inner, str):
        inner = {"class_path": inner}
    values[word] = inner if isinstance(inner, dict) else {}
    set_value(values[word], rest, value)
