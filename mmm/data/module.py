"""The data of a run: cards and files in, packed optimiser steps out."""

from __future__ import annotations

import glob
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, IterableDataset

from mmm.core.batch import StepBatch
from mmm.core.draw import Draw, hash64
from mmm.core.errors import BadRecipe, BadRecord, did_you_mean
from mmm.core.modality import Modality, Record, Tokenizer
from mmm.core.tokens import Sample, pack

from .cards import load_card
from .mixture import Example, Item, Mixture, Plan, Source, deal, sample_of

log = logging.getLogger("mmm")
VALIDATION_EPOCH = -1


class Data(LightningDataModule):
    """Weighted cards and one's own files, mixed into token-budget batches in a keyed order.

    Args:
        cards: names of data cards, each with its share of the tokens.
        files: one's own files for a modality: a file, a folder, a glob, or several; they replace that modality's cards.
        tokens_per_batch: of one optimiser step, over all processes.
        max_tokens_per_rank: of one forward pass; more micro-batches are made where it would be exceeded.
        validation: share of the records, by hash, that is held out where a card names no validation set.
        validation_records: at most so many of each source are used; None: all.
        workers: processes that read and tokenise; 0 does it in the training process, which is faster for short records.
    """

    def __init__(
        self,
        cards: dict[str, float] | None = None,
        files: dict[str, str | list[str]] | None = None,
        tokens_per_batch: int = 8192,
        max_tokens_per_rank: int | None = None,
        validation: float = 0.05,
        validation_records: int | None = 512,
        workers: int = 0,
    ):
        super().__init__()
        if not 0 < validation < 1:
            raise ValueError(f"validation {validation}: a share of the records lies between 0 and 1")
        self.cards, self.files = cards or {}, files or {}
        self.tokens_per_batch, self.max_tokens_per_rank = tokens_per_batch, max_tokens_per_rank
        self.validation, self.validation_records, self.workers = validation, validation_records, workers
        self.cursor: dict[str, int] = {}
        self.seed = 0
        self._splits: dict[str, list[tuple[str, float, list[Example]]]] = {}

    # -- records ---------------------------------------------------------------------------------------------------------------

    def prepare_data(self) -> None:
        """Make the data of cards that can be made here. One process does it; the others wait."""
        for name in self.cards:
            card = load_card(name)
            if card.modality not in self.files and not card.prepared() and card.preparer is not None:
                log.info("card %r: making its data in %s", name, card.root())
                log.info("card %r: %s", name, card.prepare())

    def setup(self, stage: str) -> None:
        if not self._splits:
            training = self.trainer.lightning_module  # type: ignore[union-attr]
            self.read(training.modalities, training.seed)  # type: ignore[union-attr, arg-type]

    def read(self, modalities: dict[str, Modality], seed: int) -> None:
        """Find every record and split training from validation.

        Raises:
            BadRecipe: where a name is unknown, data are missing or a split is empty.
            BadRecord: where a file cannot be read.
        """
        self.tokenizers: dict[str, Tokenizer] = {n: m.tokenizer for n, m in modalities.items()}
        self.seed = seed
        for name in self.files:
            if name not in modalities:
                raise BadRecipe(f"data.files: the model has no modality {name!r}. {did_you_mean(name, modalities)}")
        train, validation = [], []
        for name, weight, at_hand in [*self._from_cards(), *self._from_files()]:
            for split, records in at_hand.items():
                (train if split == "train" else validation).append((name, weight, records))
        if not train:
            raise BadRecipe("no data: name cards in data.cards, or one's own files in data.files.MODALITY")
        self._splits = {"train": train, "validation": validation}
        for name, _, records in train:
            if not records:
                raise BadRecipe(f"data {name!r}: no record fell into the training set; give more records")
        for name, _, records in validation:
            if not records:
                raise BadRecipe(
                    f"data {name!r}: no record fell into the validation set; give more records or a larger data.validation"
                )
            if len(records) < 30:
                log.warning("data %r: only %d validation records; intervals will be wide", name, len(records))

    def _from_cards(self) -> Iterator[tuple[str, float, dict[str, list[Example]]]]:
        for name, weight in self.cards.items():
            card = load_card(name)
            if card.modality in self.files:
                continue
            if card.modality not in self.tokenizers:
                raise BadRecipe(
                    f"card {name!r} holds {card.modality!r}, which this model does not have. "
                    f"{did_you_mean(card.modality, self.tokenizers)}"
                )
            train = self._records(card.modality, card.files("train"))
            if card.has_validation:
                yield name, weight, {"train": train, "validation": self._records(card.modality, card.files("validation"))}
            else:
                yield name, weight, self._split(train, card.validation_share or self.validation)

    def _from_files(self) -> Iterator[tuple[str, float, dict[str, list[Example]]]]:
        for name, patterns in self.files.items():
            paths = []
            for pattern in [patterns] if isinstance(patterns, str) else patterns:
                paths += find_files(pattern, self.tokenizers[name].suffixes, f"data.files.{name}")
            paths = list({path.resolve(): path for path in paths}.values())  # several patterns may name one file
            replaced = [w for c, w in self.cards.items() if load_card(c).modality == name]
            yield f"files.{name}", sum(replaced) or 1.0, self._split(self._records(name, paths), self.validation)

    def _records(self, name: str, paths: Sequence[Path]) -> list[Example]:
        examples: list[Example] = [{name: record} for path in paths for record in self.tokenizers[name].records(path)]
        if not examples:
            raise BadRecipe(f"no {name} record in {', '.join(map(str, paths[:3]))}{' ...' if len(paths) > 3 else ''}")
        return examples

    def _split(self, examples: list[Example], share: float) -> dict[str, list[Example]]:
        """By hash of the record alone: equal records fall on one side, whatever else is there and in whatever order."""
        names = torch.tensor([sample_of(e) for e in examples], dtype=torch.int64)
        held = (Draw(0).stream("split").uniform(names) < share).tolist()
        return {
            "train": [e for e, h in zip(examples, held, strict=True) if not h],
            "validation": [e for e, h in zip(examples, held, strict=True) if h],
        }

    def training_records(self, name: str) -> list[Record]:
        """Records of one modality in the training split, for fitting."""
        return [e[name] for _, _, examples in self._splits["train"] for e in examples if name in e]

    def sources(self, split: str) -> list[Source]:
        """The records of a split with their lengths; tokenizers must be fitted."""
        made = []
        for name, weight, examples in self._splits[split]:
            if split == "validation" and self.validation_records and len(examples) > self.validation_records:
                order = Draw(0).stream("validation").bits(torch.tensor([sample_of(e) for e in examples])).argsort().tolist()
                log.info("data %r: %d of %d validation records are used", name, self.validation_records, len(examples))
                examples = [examples[i] for i in order[: self.validation_records]]
            lengths = [sum(self.tokenizers[m].length(r) for m, r in e.items()) for e in examples]
            made.append(Source(name, weight, examples, lengths))
        return made

    def describe(self) -> dict[str, Any]:
        """Records of each source and split, for the report."""
        return {split: {name: len(examples) for name, _, examples in parts} for split, parts in self._splits.items()}

    # -- loaders ---------------------------------------------------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader[StepBatch]:
        trainer = self.trainer
        assert trainer is not None
        steps = Steps(self, trainer.global_rank, trainer.world_size, dict(self.cursor))
        return _Loader(steps, batch_size=None, num_workers=self.workers, persistent_workers=self.workers > 0)

    def val_dataloader(self) -> DataLoader[StepBatch]:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return DataLoader(Held(self, rank, world), batch_size=None)

    def tokenize(self, example: Example, epoch: int) -> Sample:
        """One record, cropped and augmented by its own key; validation records are left as they are.

        Raises:
            BadRecord: naming the file and the record, whatever the tokenizer ran into.
        """
        sample = sample_of(example)
        draw = None if epoch == VALIDATION_EPOCH else Draw(self.seed).stream("tokenize").at(sample, epoch)
        pieces = {}
        for name, record in example.items():
            try:
                pieces[name] = self.tokenizers[name].tokenize(record.raw, draw)
            except BadRecord:
                raise
            except (ValueError, OSError) as error:
                raise BadRecord(record.path, record.record, str(error)) from error
        return Sample(pieces, sample, epoch, {"example": example})

    def fingerprint(self) -> dict[str, int]:
        """A hash of each source's training records, whatever their order."""
        names = {name: sorted(sample_of(e) for e in examples) for name, _, examples in self._splits["train"]}
        return {name: hash64(torch.tensor(samples, dtype=torch.int64).numpy().tobytes()) for name, samples in names.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"cursor": self.cursor, "fingerprint": self.fingerprint()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises BadRecipe where the records are not those the run began with."""
        now = self.fingerprint()
        for name, before in state_dict["fingerprint"].items():
            if now.get(name) != before:
                raise BadRecipe(f"data {name!r}: its records are not those this run began with, so it cannot go on as it began")
        self.cursor = dict(state_dict["cursor"])


class _Loader(DataLoader[StepBatch]):
    """Raises what a worker could not do as the worker raised it."""

    def __iter__(self) -> Iterator[StepBatch]:  # type: ignore[override]
        for batch in super().__iter__():
            if isinstance(batch, ValueError):
                raise batch
            yield batch


class Steps(IterableDataset[StepBatch]):
    """This process's share of every optimiser step, endlessly; with workers, each makes every so-manieth step."""

    def __init__(self, data: Data, rank: int, world: int, cursor: dict[str, int]):
        self.sources = data.sources("train")
        self.mixture = Mixture(self.sources, data.tokens_per_batch, data.seed)
        self.rank, self.world, self.cursor = rank, world, cursor
        self.tokenizers, self.most = data.tokenizers, data.max_tokens_per_rank
        self.seed = data.seed
        self._tokenize = data.tokenize

    def __getstate__(self) -> dict[str, Any]:
        # A worker needs the tokenizers, not the module that holds the trainer.
        state = dict(self.__dict__)
        lean = Data()
        lean.tokenizers, lean.seed = self.tokenizers, self.seed
        state.update(_tokenize=lean.tokenize, mixture=None)
        state["most_per_batch"] = self.mixture.tokens_per_batch
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        tokens_per_batch = state.pop("most_per_batch")
        self.__dict__.update(state)
        self.mixture = Mixture(self.sources, tokens_per_batch, self.seed)

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
        micro = tuple(pack([self._sample(i) for i in items], self.tokenizers) for items in share)
        return StepBatch(micro, plan.cursor)

    def _sample(self, item: Item) -> Sample:
        return self._tokenize(self.sources[item.source].examples[item.index], item.epoch)


class Held(torch.utils.data.Dataset[StepBatch]):
    """This process's share of the validation records, in batches of at most the training budget of one process."""

    def __init__(self, data: Data, rank: int, world: int):
        self.data = data
        budget = data.max_tokens_per_rank or -(-data.tokens_per_batch // world)
        self.batches: list[list[Example]] = []
        for source in data.sources("validation"):
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
        samples = [self.data.tokenize(e, VALIDATION_EPOCH) for e in self.batches[number]]
        return StepBatch((pack(samples, self.data.tokenizers),))


def find_files(pattern: str, suffixes: Sequence[str], where: str) -> list[Path]:
    """Files of a pattern: a file, a folder (searched through), or a glob; sorted.

    Raises:
        BadRecipe: where nothing is found, or nothing with an ending that can be read.
    """
    path = Path(pattern).expanduser()
    if path.is_file():
        found = [path]
    elif path.is_dir():
        found = [p for p in path.rglob("*") if p.is_file() and p.name.lower().endswith(tuple(suffixes))]
    else:
        found = [Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file()]
    if not found:
        raise BadRecipe(f"{where}: {pattern!r} matches no file ({', '.join(suffixes)} can be read)")
    for file in found:
        if not file.name.lower().endswith(tuple(suffixes)):
            raise BadRecipe(f"{where}: {file} cannot be read; endings that can: {', '.join(suffixes)}")
    return sorted(found)
