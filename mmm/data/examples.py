"""Examples in memory or on a shelf: choosing among them, splitting them, and what they are known by.

Shape suffixes: N examples.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mmm.core.draw import Draw, hash64

from .mixture import Example, sample_of, samples_of
from .shelf import Shelf


def chosen(examples: Sequence[Example], index: torch.Tensor) -> Sequence[Example]:
    """Some of them, by number or by a mask."""
    if isinstance(examples, Shelf):
        return examples.select(index.numpy())
    numbers = index.nonzero()[:, 0] if index.dtype == torch.bool else index
    return [examples[i] for i in numbers.tolist()]


def by_hash(examples: Sequence[Example], share: float) -> dict[str, Sequence[Example]]:
    """Split by hash of the record alone: equal records fall on one side, whatever else is there and in whatever order."""
    held_N = Draw(0).stream("split").uniform(samples_of(examples)) < share
    return {"train": chosen(examples, ~held_N), "validation": chosen(examples, held_N)}


def identities(examples: Sequence[Example]) -> torch.Tensor:
    """Of every record."""
    if isinstance(examples, Shelf):
        return examples.samples
    return torch.tensor([_identity(e) for e in examples], dtype=torch.int64)


def _identity(example: Example) -> int:
    """The record's name, and what its labels are."""
    labels = [repr(r.label) for _, r in sorted(example.items()) if r.label is not None]
    return hash64(f"{sample_of(example)} {labels}".encode()) if labels else sample_of(example)
