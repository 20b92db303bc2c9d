"""Overrides of a recipe's values, as they are written on the command line."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .core.errors import BadRecipe
from .yaml import loads

TEXTS = ("data.files.", "data.test.", "data.joint", "init_from")
"""Keys whose values are names, those of digits too: a folder may be called ``2024``."""


def parse_overrides(words: Iterable[str]) -> list[tuple[str, Any]]:
    """``--a.b value`` and ``--a.b=value`` pairs; values are read as YAML, and as plain text where they are none.

    Raises:
        BadRecipe: a word that is no option, an option without a value.
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
    return pairs


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
