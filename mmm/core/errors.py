"""What goes wrong on the user's side. Everything here is a ``ValueError``; an ``assert`` is for our own mistakes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class BadRecord(ValueError):
    """A record that cannot be used: names the file, the record in it, and the reason."""

    def __init__(self, path: Any, record: Any, reason: str):
        self.path, self.record, self.reason = path, record, reason
        where = f"{path}" if record is None else f"{path}, record {record}"
        super().__init__(f"{where}: {reason}")

    def __reduce__(self) -> tuple[Any, ...]:  # crosses process borders whole
        return (BadRecord, (self.path, self.record, self.reason))


class BadRecipe(ValueError):
    """A recipe, a card or an option that cannot be used: names the place, the value and the choices."""


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A closing sentence: the nearest of ``choices`` to ``word`` if one is near, then all of them."""
    choices = sorted(set(map(str, choices)))
    near = difflib.get_close_matches(str(word), choices, n=1, cutoff=0.6)
    if not near:
        near = [c for c in choices if c.lower() == str(word).lower()][:1]
    guess = f"Did you mean {near[0]!r}? " if near else ""
    return f"{guess}Choices: {', '.join(choices) if choices else 'none'}."
