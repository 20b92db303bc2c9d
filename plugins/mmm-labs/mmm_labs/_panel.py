"""What is learned of the training records: which codes there are, how their numbers lie, which categories they have.

An *item* is what a token can be: a code whose values are numbers, or one category of a code whose values are words.

Shape suffixes: M codes of numbers, B bins, I items.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mmm.core.errors import did_you_mean

MOST_BINS = 16
"""Bins of the piecewise linear encoding of one code, at most."""

OTHER = "\u2026"
"""The category that stands for all that no training record has."""


class Category(str):
    """A text that is a category even where it looks like a number, because its file says so."""


@dataclass(frozen=True)
class Number:
    """How the numbers of one code lie.

    Args:
        log: they are told by their logarithms. mean, deviation: of the numbers, or of their logarithms.
        edges: quantiles of the deviations from the mean, rising.
    """

    log: bool
    mean: float
    deviation: float
    edges: tuple[float, ...]

    @classmethod
    def of(cls, values: np.ndarray) -> Number:
        """Logarithms are taken where all numbers are above 0 and it makes them less skewed: many laboratory values are
        log-normal."""
        log = bool(values.min() > 0) and abs(_skewness(np.log(values))) < abs(_skewness(values))
        values = np.log(values) if log else values
        mean, deviation = float(values.mean()), float(values.std()) or 1.0
        edges = np.unique(np.quantile((values - mean) / deviation, np.linspace(0, 1, MOST_BINS + 1)))
        return cls(log, mean, deviation, tuple(edges.tolist()))

    def scaled(self, value: float) -> float:
        """Deviations from the mean. Raises ValueError where a number at or below 0 has no logarithm here."""
        if self.log and value <= 0:
            raise ValueError(f"{value:g}, but all training values are above 0")
        return ((math.log(value) if self.log else value) - self.mean) / self.deviation

    def value(self, scaled: float) -> float:
        """The number itself, to six digits."""
        number = scaled * self.deviation + self.mean
        return float(f"{math.exp(min(number, 700.0)) if self.log else number:.6g}")


@dataclass(frozen=True)
class Panel:
    """The codes of some records, in the order of their names.

    Args:
        numbers: codes whose values are numbers. categories: those whose values are words, with the words.
    """

    numbers: Mapping[str, Number]
    categories: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, rows: Iterable[Mapping[str, str]]) -> Panel:
        """The panel of training rows.

        Raises:
            ValueError: no row; a code has numbers and words; or almost as many words as records.
        """
        found: dict[str, Counter[str]] = {}
        declared: set[str] = set()
        count = 0
        for row in rows:
            count += 1
            for code, text in row.items():
                found.setdefault(code, Counter())[str(text)] += 1
                if isinstance(text, Category):
                    declared.add(code)
        if not found:
            raise ValueError("no training record with a value in it")
        numbers, categories = {}, {}
        for code, texts in sorted(found.items()):
            read = {text: number_of(text) for text in texts}
            words = [text for text, number in read.items() if number is None]
            if code not in declared and not words:
                numbers[code] = Number.of(np.repeat(list(read.values()), list(texts.values())).astype(float))
                continue
            if code not in declared and len(words) < len(texts):
                number = next(text for text in texts if text not in words)
                raise ValueError(
                    f"{code!r} is {words[0]!r} in one record and {number} in another; mend it, or name it in `categories` "
                    "where both are words"
                )
            if len(texts) > 50 and len(texts) > count / 2:
                raise ValueError(
                    f"{code!r} has {len(texts)} categories in {count} records; name it in `ignore` if it is a name"
                )
            categories[code] = tuple(sorted(texts))
        return cls(numbers, categories)

    @classmethod
    def of_json(cls, data: bytes) -> Panel:
        """What ``to_json`` wrote."""
        kept = json.loads(data)
        numbers = {code: Number(**{**n, "edges": tuple(n["edges"])}) for code, n in kept["numbers"].items()}
        return cls(numbers, {code: tuple(words) for code, words in kept["categories"].items()})

    def to_json(self) -> bytes:
        """The asset."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode()

    @cached_property
    def items(self) -> tuple[tuple[str, str], ...]:
        """(code, category) of every item, the codes of numbers first and with no category."""
        words = [(code, word) for code, found in self.categories.items() for word in (*found, OTHER)]
        return (*((code, "") for code in self.numbers), *words)

    @cached_property
    def number_of_item(self) -> dict[tuple[str, str], int]:
        return {item: i for i, item in enumerate(self.items)}

    @cached_property
    def columns(self) -> dict[str, int]:
        """A number for each code: of its first item, so that codes of numbers have one number everywhere."""
        first: dict[str, int] = {}
        for i, (code, _) in enumerate(self.items):
            first.setdefault(code, i)
        return first

    @cached_property
    def column_I(self) -> Tensor:
        """The code of every item, as in ``columns``."""
        return torch.tensor([self.columns[code] for code, _ in self.items])

    def edges(self) -> tuple[Tensor, Tensor]:
        """(low_MB, width_MB) of the bins of every code of numbers; the width is 0 where a code has fewer bins."""
        low, width = (torch.zeros(len(self.numbers), MOST_BINS) for _ in range(2))
        for m, number in enumerate(self.numbers.values()):
            edge = torch.tensor(number.edges)
            if len(edge) == 1:
                edge = torch.cat([edge, edge + 1])  # all training values were one
            low[m, : len(edge) - 1], width[m, : len(edge) - 1] = edge[:-1], edge.diff()
        return low, width

    def check(self, code: str) -> None:
        """Raises ValueError where no training record has this code."""
        if code not in self.columns:
            raise ValueError(f"the code {code!r} is in no training record. {did_you_mean(code, self.columns)}")


def number_of(text: str) -> float | None:
    """The finite number that a text is, None where it is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _skewness(values: np.ndarray) -> float:
    deviation = values.std()
    return float((((values - values.mean()) / deviation) ** 3).mean()) if deviation else 0.0
