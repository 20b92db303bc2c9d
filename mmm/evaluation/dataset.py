"""Labelled records as every reader leaves them and every measure takes them.

Shape suffixes: none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mmm.core.draw import Draw, hash64
from mmm.core.modality import Tokenizer

TEST_SHARE = 0.2
"""Of the records, where the data have no test set of their own."""
UNKNOWN = "-"
"""The state of a residue that is not asked (unresolved in the structure)."""


@dataclass(frozen=True)
class Example:
    """One labelled record, or two that belong together.

    Args:
        records: what the modality's tokenizer takes; two of a pair.
        key: its identity: splits, subsamples and the cache of features go by it.
        label: what is known of it; the reader's documentation says what.
        test: whether the data put it into their test set; None where they have none.
    """

    records: tuple[Any, ...]
    key: str
    label: Any
    test: bool | None = None


@dataclass(frozen=True)
class Dataset:
    """Examples, and what a reader has to say of them.

    Args:
        examples: in the order of the files. notes: what was left out and why, for people.
    """

    examples: Sequence[Example]
    notes: list[str] = field(default_factory=list)

    @property
    def has_test(self) -> bool:
        """Whether the data have a test set of their own."""
        return any(e.test for e in self.examples)

    def split(self, seed: int, train: int | None = None, test: int | None = None) -> tuple[list[Example], list[Example]]:
        """Training and test examples.

        The data's own test set is the same for every seed; without one, the share ``TEST_SHARE`` is, chosen by the seed and the
        records' keys, so that equal records fall on one side.

        Args:
            seed: of the split and of the choice of training examples.
            train, test: how many are taken at most, chosen by their keys; all by default.

        Raises:
            ValueError: one of the two would be empty.
        """
        draw = Draw(seed).stream("evaluation")
        if self.has_test:
            sides = [e for e in self.examples if not e.test], [e for e in self.examples if e.test]
            test_draw = Draw(0).stream("evaluation").stream("test")
        else:
            uniform = draw.stream("split").uniform(_names(self.examples))
            held = (uniform < TEST_SHARE).tolist()
            sides = tuple([e for e, h in zip(self.examples, held, strict=True) if h is side] for side in (False, True))
            test_draw = draw.stream("test")
        if not all(sides):
            raise ValueError(f"{len(sides[0])} training and {len(sides[1])} test records: both are needed")
        return some(sides[0], train, draw.stream("train")), some(sides[1], test, test_draw)


def some(examples: Sequence[Example], most: int | None, draw: Draw) -> list[Example]:
    """At most so many, chosen by their keys, in their own order; whatever the order of the files, the same ones."""
    if most is None or len(examples) <= most:
        return list(examples)
    bits = draw.bits(_names(examples)).tolist()
    chosen = sorted(sorted(range(len(examples)), key=lambda i: (bits[i], i))[:most])
    return [examples[i] for i in chosen]


def _names(examples: Iterable[Example]) -> torch.Tensor:
    return torch.tensor([hash64(e.key.encode()) for e in examples], dtype=torch.int64)


@dataclass(frozen=True)
class Given:
    """Where the data lie.

    Args:
        paths: by "train" and "test", or one under "" that holds both. tokenizer: of the modality.
    """

    paths: dict[str, Path]
    tokenizer: Tokenizer

    @property
    def whole(self) -> Path:
        """The one path. Raises ValueError where two sides are given to a reader that knows the sides itself."""
        if "" not in self.paths:
            raise ValueError("these data are given as one path: their own files say what is training and what is test")
        return self.paths[""]


Reader = Callable[..., Dataset]
