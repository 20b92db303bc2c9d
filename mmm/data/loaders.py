"""From records to batches: packing, the steps of training, the held-out records."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, IterableDataset

from mmm.core.batch import StepBatch
from mmm.core.draw import Draw
from mmm.core.errors import BadRecipe, BadRecord
from mmm.core.modality import Tokenizer
from mmm.core.tokens import Piece, Sample, Tokens, pack

from .mixture import Example, Item, Mixture, Plan, deal, sample_of
from .tables import parts

if TYPE_CHECKING:
    from .module import Data

VALIDATION_EPOCH = -1
KEPT = 2**28
"""Bytes of pieces that a process which feeds training keeps: 256 MiB, such as 45,000 digits of MNIST or 70 minutes of sound."""
AROUND = 2048
"""Bytes around the numbers of a piece, most of them its tensors' own."""


class Packer:
    """Records to a packed batch; plain, for workers.

    Args:
        tokenizers: of the model's modalities, in its order. seed: of the run.
        room: bytes of pieces that are kept for the next reading of their records. Those are kept that no random number went
            into, the first that fit, and the tokenizers must not change any more.
    """

    def __init__(self, tokenizers: Mapping[str, Tokenizer], seed: int, room: int = 0):
        self.tokenizers, self.draw, self.room = tokenizers, Draw(seed).stream("tokenize"), room
        self._kept: dict[tuple[Hashable, int, str], Piece] = {}

    def __call__(self, examples: Sequence[Example], epochs: Sequence[int], places: Sequence[Hashable] | None = None) -> Tokens:
        """Records of these epochs, packed. A pair makes two segments of one group: part 0 and part 1 of it.

        Args:
            places: one for each example, by which its pieces are known at the next reading; None: none are kept.
        """
        samples = []
        for number, (example, epoch) in enumerate(zip(examples, epochs, strict=True)):
            found = _parts(example)
            for n, one in enumerate(found):
                sample = self.tokenize(one, epoch, None if places is None else (places[number], n))
                whole = sample.sample if len(found) == 1 else sample_of(example)
                samples.append(Sample(sample.pieces, whole, epoch, {**sample.aux, "group": number, "part": n}))
        tokens = pack(samples, self.tokenizers)
        group, part = (torch.tensor(tokens.aux.get(key, []), dtype=torch.int64) for key in ("group", "part"))
        return replace(tokens, layout=replace(tokens.layout, group_S=group, part_S=part))

    def tokenize(self, example: Example, epoch: int, place: tuple[Hashable, int] | None = None) -> Sample:
        """One record, cropped and augmented by its own key; validation records are left as they are.

        Its extras are the record itself (``example``) and the draw it was tokenised with (``draw``).

        Args:
            place: of the example, and which part of it this is.

        Raises:
            BadRecord: naming the file and the record, whatever the tokenizer ran into.
        """
        sample = sample_of(example)
        draw = None if epoch == VALIDATION_EPOCH else self.draw.at(sample, epoch)
        pieces = {}
        for name, record in example.items():
            piece = None if place is None else self._kept.get((*place, name))
            if piece is None:
                own = None if draw is None else self.draw.at(sample, epoch)  # equal to it, and asked for this piece alone
                try:
                    piece = self.tokenizers[name].tokenize(record.raw, own)
                except BadRecord:
                    raise
                except (ValueError, OSError) as error:
                    raise BadRecord(record.path, record.record, str(error)) from error
                if place is not None and self.room > 0 and own is not None and not own.asked:
                    self._kept[(*place, name)] = piece
                    self.room -= piece.bytes + AROUND
            pieces[name] = piece
        return Sample(pieces, sample, epoch, {"example": example, "draw": draw})


def _parts(example: Example) -> list[Example]:
    """Itself, or the two records of a pair."""
    name, record = next(iter(example.items()))
    found = parts(record)
    return [example] if len(found) == 1 else [{name: part} for part in found]


class Loader(DataLoader[StepBatch]):
    """Raises what a worker could not do as the worker raised it."""

    def __iter__(self) -> Iterator[StepBatch]:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, ValueError):
                raise batch
            yield batch


class Steps(IterableDataset[StepBatch]):
    """This process's share of every optimiser step, endlessly; with workers, each makes every so-manieth step."""

    def __init__(self, data: Data, rank: int, world: int, cursor: dict[str, int]):
        self.sources = data.sources("train", encoded=True)
        self.mixture = Mixture(self.sources, data.tokens_per_batch, data.seed)
        self.rank, self.world, self.cursor = rank, world, cursor
        self.most, self.seed = data.max_tokens_per_rank, data.seed
        for source in self.sources:
            if self.most is not None and (longest := int(max(source.lengths))) > self.most:
                raise BadRecipe(
                    f"data {source.name!r}: a record of {longest} tokens does not fit max_tokens_per_rank {self.most}; "
                    "make it larger or the modality's length limit smaller"
                )
        self._pack = Packer(data.tokenizers, data.seed, KEPT)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "mixture": self.mixture.tokens_per_batch}  # it remembers orders, and those stay here

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.mixture = Mixture(self.sources, state["mixture"], self.seed)

    def plans(self) -> Iterator[Plan]:
        return self.mixture.batches(self.cursor)

    def __iter__(self) -> Iterator[StepBatch]:
        worker = torch.utils.data.get_worker_info()
        mine, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        for number, plan in enumerate(self.plans()):
            if number % workers == mine:
                try:
                    batch = self.batch(plan)
                except ValueError as error:
                    if worker is None:
                        raise
                    yield error  # type: ignore[misc]  # the loader raises it; torch would wrap it in a traceback
                    return
                yield batch

    def batch(self, plan: Plan) -> StepBatch:
        """Tokenise and pack this process's share of a plan."""
        share = deal(plan.items, self.world, self.most)[self.rank]
        return StepBatch(tuple(self._packed(items) for items in share), plan.cursor)

    def _packed(self, items: Sequence[Item]) -> Tokens:
        examples = [self.sources[i.source].examples[i.index] for i in items]
        return self._pack(examples, [i.epoch for i in items], [(i.source, i.index) for i in items])


class Held(torch.utils.data.Dataset[StepBatch]):
    """This process's share of the validation records, in batches of at most the training budget of one process.

    Args:
        data: read. rank, world: this process and how many there are. split: of which the records are.
    """

    def __init__(self, data: Data, rank: int, world: int, split: str = "validation"):
        self.data = data
        budget = data.max_tokens_per_rank or -(-data.tokens_per_batch // world)
        self.batches: list[list[Example]] = []
        for source in data.sources(split, encoded=True):
            room = 0
            mine = range(rank, len(source.examples), world)
            for i in sorted(mine, key=lambda i: (source.lengths[i], i)):
                if source.lengths[i] > room:
                    self.batches.append([])
                    room = max(budget, source.lengths[i])
                self.batches[-1].append(source.examples[i])
                room -= source.lengths[i]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> StepBatch:
        return StepBatch((self.data.pack(self.batches[number]),))
