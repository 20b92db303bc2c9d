"""The keyed global order: which record comes when, for every process alike, from arithmetic alone.

Nothing is drawn in sequence: the order of a source's epoch is a sort of hashes of (seed, epoch, record), and the next source
is the one furthest behind its share. So the state of the whole order is one number a source.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch

from mmm.core.draw import Draw, hash64
from mmm.core.modality import Record

Example = Mapping[str, Record]
"""One record of the data: a raw value for each of its modalities."""


@dataclass(frozen=True)
class Source:
    """Records that are mixed as one.

    Args:
        name: of the card, or of the files. weight: the share of *tokens* it gets, relative to the others.
        examples: its records. lengths: tokens each of them makes.
    """

    name: str
    weight: float
    examples: Sequence[Example]
    lengths: Sequence[int]

    @cached_property
    def samples(self) -> torch.Tensor:
        """64-bit names of the records."""
        return samples_of(self.examples)


def samples_of(examples: Sequence[Example]) -> torch.Tensor:
    """The 64-bit names of records; those that know theirs say so."""
    known: torch.Tensor | None = getattr(examples, "samples", None)
    return torch.tensor([sample_of(e) for e in examples], dtype=torch.int64) if known is None else known


def sample_of(example: Example) -> int:
    """The 64-bit name of a record: the hash of what its modalities hold."""
    return hash64(b"\0".join(name.encode() + b"\0" + record.key for name, record in sorted(example.items())))


@dataclass(frozen=True)
class Item:
    """One place of the order."""

    source: int
    index: int
    epoch: int
    length: int


@dataclass(frozen=True)
class Plan:
    """One optimiser step over all processes, and where the order stands after it."""

    items: tuple[Item, ...]
    cursor: dict[str, int]


class Mixture:
    """An endless order over weighted sources, cut into batches of at most ``tokens_per_batch`` tokens.

    Args:
        sources: at least one, each with records. tokens_per_batch: over all processes. seed: of the order.
    """

    def __init__(self, sources: Sequence[Source], tokens_per_batch: int, seed: int):
        self.sources, self.tokens_per_batch = list(sources), tokens_per_batch
        self._draw = Draw(seed).stream("order")
        for source in self.sources:
            if not 0 < source.weight < math.inf:
                raise ValueError(
                    f"data {source.name!r}: weight {source.weight} is no share; give a number above 0, or leave it out"
                )
            longest = int(max(source.lengths))
            if longest > tokens_per_batch:
                raise ValueError(
                    f"data {source.name!r}: a record of {longest} tokens does not fit tokens_per_batch {tokens_per_batch}; "
                    "make the batch larger or the modality's length limit smaller"
                )
        self._order = lru_cache(maxsize=2 * len(self.sources))(self._epoch)

    def _epoch(self, source: int, epoch: int) -> torch.Tensor:
        """The order of one source's epoch."""
        samples = self.sources[source].samples
        return torch.argsort(self._draw.at(epoch).bits(samples), stable=True)

    def batches(self, cursor: Mapping[str, int] | None = None) -> Iterator[Plan]:
        """Plans, without end, from where ``cursor`` stands.

        Args:
            cursor: for each source, records taken (``NAME``) and tokens taken (``NAME tokens``).
        """
        taken = [int((cursor or {}).get(s.name, 0)) for s in self.sources]
        tokens = [int((cursor or {}).get(f"{s.name} tokens", 0)) for s in self.sources]
        while True:
            items: list[Item] = []
            room = self.tokens_per_batch
            while True:
                s = min(range(len(self.sources)), key=lambda i: (tokens[i] / self.sources[i].weight, i))
                source = self.sources[s]
                epoch, place = divmod(taken[s], len(source.examples))
                index = int(self._order(s, epoch)[place])
                length = int(source.lengths[index])
                if length > room:
                    break
                items.append(Item(s, index, epoch, length))
                taken[s], tokens[s], room = taken[s] + 1, tokens[s] + length, room - length
            after = {s.name: n for s, n in zip(self.sources, taken, strict=True)}
            after |= {f"{s.name} tokens": n for s, n in zip(self.sources, tokens, strict=True)}
            yield Plan(tuple(items), after)


def deal(items: Sequence[Item], processes: int, most: int | None = None) -> list[list[list[Item]]]:
    """Deal a batch to processes and micro-batches, evenly by tokens: the longest record first, to the emptiest place.

    Args:
        processes: how many. most: tokens a micro-batch may have; None: one micro-batch each.

    Returns:
        ``[process][micro-batch]`` lists of items, each in the batch's order; every process has equally many micro-batches.

    Raises:
        ValueError: where a single record is longer than ``most``.
    """
    longest = max((i.length for i in items), default=0)
    if most is not None and longest > most:
        raise ValueError(f"a record of {longest} tokens does not fit max_tokens_per_rank {most}")
    by_length = sorted(range(len(items)), key=lambda i: (-items[i].length, i))
    micro = 1 if most is None else max(1, math.ceil(sum(i.length for i in items) / (most * processes)))
    while True:
        bins: list[list[int]] = [[] for _ in range(processes * micro)]
        emptiest = [(0, b) for b in range(len(bins))]  # a heap of (tokens, place)
        for i in by_length:
            load, b = emptiest[0]
            bins[b].append(i)
            heapq.heapreplace(emptiest, (load + items[i].length, b))
        if most is None or max(emptiest)[0] <= most:
            return [[[items[i] for i in sorted(bins[p * micro + m])] for m in range(micro)] for p in range(processes)]
        micro += 1
