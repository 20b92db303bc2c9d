"""The data of a run: cards and files in, packed optimiser steps out."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from mmm.core.batch import StepBatch
from mmm.core.draw import Draw, hash64
from mmm.core.errors import BadRecipe, did_you_mean
from mmm.core.modality import Modality, Record, Tokenizer
from mmm.core.tokens import Sample, Tokens

from .cards import load_card
from .examples import by_hash, chosen, identities
from .files import find_files
from .known import known, length_of
from .loaders import VALIDATION_EPOCH, Held, Loader, Packer, Steps
from .mixture import Example, Source, samples_of
from .shelf import Shelf, Shelves, shelved
from .tables import is_table, parts, read_joint, read_table

__all__ = ["VALIDATION_EPOCH", "Data", "Held", "Steps"]

log = logging.getLogger("mmm")


class Data(LightningDataModule):
    """Weighted cards and one's own files, mixed into token-budget batches in a keyed order.

    Args:
        cards: names of data cards, each with its share of the tokens.
        files: one's own files for a modality: a file, a folder, a glob, or several; they replace that modality's cards. A .csv
            or .tsv file is a table with the columns ``record`` and ``label``; see ``mmm/data/tables.py``.
        joint: .csv or .tsv tables whose columns are modalities: a row is one record that holds several, and its tokens attend
            to each other. They stand beside the cards, as one more card of the share 1.
        test: files of the same kinds for a modality that has ``files``: its test set, held out in place of a share.
        tokens_per_batch: of one optimiser step, over all processes.
        max_tokens_per_rank: of one forward pass; more micro-batches are made where it would be exceeded.
        validation: share of the records, by hash, that is held out where nothing names a validation or test set.
        validation_records: at most so many of each source are used, but all of a test set; None: all.
        workers: processes that read and tokenise; 0 does it in the training process, which is faster for short records.
    """

    def __init__(
        self,
        cards: dict[str, float] | None = None,
        files: dict[str, str | list[str]] | None = None,
        joint: str | list[str] | None = None,
        test: dict[str, str | list[str]] | None = None,
        tokens_per_batch: int = 8192,
        max_tokens_per_rank: int | None = None,
        validation: float = 0.05,
        validation_records: int | None = 512,
        workers: int = 0,
    ):
        super().__init__()
        if not 0 < validation < 1:
            raise ValueError(f"validation {validation}: a share of the records lies between 0 and 1")
        if validation_records is not None and validation_records < 1:
            raise ValueError(f"validation_records {validation_records}: 1 or more, or null for all there are")
        self.cards, self.files, self.test = cards or {}, files or {}, test or {}
        self.joint = [joint] if isinstance(joint, str) else joint or []
        self.tokens_per_batch, self.max_tokens_per_rank = tokens_per_batch, max_tokens_per_rank
        self.validation, self.validation_records, self.workers = validation, validation_records, workers
        self.cursor: dict[str, int] = {}
        self.seed = 0
        self._splits: dict[str, list[tuple[str, float, Sequence[Example]]]] = {}
        self._fingerprint: dict[str, int] | None = None
        self.repeated: dict[str, int] = {}
        """Held-out records that are training records, too, of each source that has any."""

    # -- records ---------------------------------------------------------------------------------------------------------------

    def prepare_data(self) -> None:
        """Make the data of cards that can be made here. One process does it; the others wait."""
        for name in self.cards:
            card = load_card(name)
            if card.modality not in self.files and not card.prepared() and card.preparer is not None:
                log.info("card %r: making its data in %s", name, card.root())
                log.info("card %r: %s", name, card.prepare())
        if self.trainer is not None:  # here, where one process works, so that what is kept on disk is written by one
            with contextlib.suppress(ValueError):  # which every process says for itself in `setup`
                self.setup("fit")

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
        self.modalities = modalities
        self.tokenizers: dict[str, Tokenizer] = {n: m.tokenizer for n, m in modalities.items()}
        self.seed, self.packer, self.repeated = seed, Packer(self.tokenizers, seed), {}
        for name in self.files:
            if name not in modalities:
                raise BadRecipe(f"data.files: the model has no modality {name!r}. {did_you_mean(name, modalities)}")
        for name in self.test:
            if name not in self.files:
                raise BadRecipe(f"data.test: {name!r} has no training data of its own; give --data.files.{name}, too")
        train, validation = [], []
        for name, weight, at_hand in [*self._from_cards(), *self._from_files(), *self._from_joint()]:
            for split, records in at_hand.items():
                (train if split == "train" else validation).append((name, weight, records))
        if not train:
            raise BadRecipe("no data: name cards in data.cards, or one's own files in data.files.MODALITY or data.joint")
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
        self._splits = {"train": train, "validation": validation}
        self._fingerprint = None

    def _from_cards(self) -> Iterator[tuple[str, float, dict[str, Sequence[Example]]]]:
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
                split = {"train": train, "validation": self._records(card.modality, card.files("validation"))}
                yield name, weight, self._told(name, f"card {name!r}", split)
            else:
                yield name, weight, by_hash(train, card.validation_share or self.validation)

    def _from_files(self) -> Iterator[tuple[str, float, dict[str, Sequence[Example]]]]:
        for name in self.files:
            records = self._own_records("files", name)
            split = {"train": records, "validation": self._own_records("test", name)} if name in self.test else None
            replaced = [w for c, w in self.cards.items() if load_card(c).modality == name]
            split = self._told(f"files.{name}", f"data.test.{name}", split) if split else by_hash(records, self.validation)
            yield f"files.{name}", sum(replaced) or 1.0, split

    def _told(self, name: str, where: str, split: dict[str, Sequence[Example]]) -> dict[str, Sequence[Example]]:
        """A split that somebody made; what was trained on is counted and said."""
        both = int(torch.isin(samples_of(split["validation"]), samples_of(split["train"])).sum())
        if both:
            self.repeated[name] = both
            log.warning("%s: %d of %d records are training records, too", where, both, len(split["validation"]))
        return split

    def _from_joint(self) -> Iterator[tuple[str, float, dict[str, Sequence[Example]]]]:
        if self.joint:
            paths = [path for pattern in self.joint for path in find_files(pattern, (), "data.joint")]
            tables = list({path.resolve(): path for path in paths}.values())
            examples = [example for path in tables for example in read_joint(path, self.tokenizers)]
            yield "joint", 1.0, by_hash(examples, self.validation)

    def _own_records(self, argument: str, name: str) -> Sequence[Example]:
        """Of the files that ``data.files`` or ``data.test`` names for a modality."""
        patterns, paths = getattr(self, argument)[name], []
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            paths += find_files(pattern, self.tokenizers[name].suffixes, f"data.{argument}.{name}")
        return self._records(name, list({path.resolve(): path for path in paths}.values()))  # several may name one file

    def _records(self, name: str, paths: Sequence[Path]) -> Sequence[Example]:
        tokenizer = self.tokenizers[name]
        if not any(is_table(path, tokenizer) for path in paths) and (shelf := shelved(name, paths, tokenizer)):
            return shelf
        examples: list[Example] = [
            {name: record}
            for path in paths
            for record in (read_table(path, tokenizer) if is_table(path, tokenizer) else tokenizer.records(path))
        ]
        if not examples:
            raise BadRecipe(f"no {name} record in {', '.join(map(str, paths[:3]))}{' ...' if len(paths) > 3 else ''}")
        return examples

    def training_records(self, name: str) -> Sequence[Record]:
        """Records of one modality in the training split, for fitting."""
        return self.records(name, "train")

    def records(self, name: str, split: str) -> Sequence[Record]:
        """Records of one modality in a split, those of pairs one by one."""
        found: list[Shelf | list[Record]] = [
            examples
            if isinstance(examples, Shelf) and examples.name == name
            else [part for e in examples if name in e for part in parts(e[name])]
            for _, _, examples in self._splits[split]
            if not isinstance(examples, Shelf) or examples.name == name
        ]
        if any(isinstance(source, Shelf) for source in found):
            return Shelves(found)
        return [record for source in found for record in source]  # type: ignore[misc]

    def sources(self, split: str, encoded: bool = False) -> list[Source]:
        """The records of a split with their lengths; tokenizers must be fitted.

        Args:
            encoded: with what these tokenizers make of them (``Encoded``). They are for no other tokenizer then.
        """
        made = []
        for name, weight, examples in self._splits[split]:
            if isinstance(examples, Shelf):
                examples = examples.encoded(self.modalities[examples.name])
            if (used := self._used(split, name, examples)) < len(examples):
                order_N = Draw(0).stream("validation").bits(samples_of(examples)).argsort()
                log.info("data %r: %d of %d validation records are used", name, used, len(examples))
                examples = chosen(examples, order_N[:used])
            if isinstance(examples, Shelf):
                lengths: Sequence[int] = examples.lengths(self.modalities[examples.name])  # type: ignore[assignment]
                made.append(Source(name, weight, examples if encoded else examples.plain(), lengths))
            else:
                examples = known(examples, self.tokenizers) if encoded else examples
                made.append(Source(name, weight, examples, [length_of(example, self.tokenizers) for example in examples]))
        return made

    def in_batches(self, split: str) -> Iterator[Tokens]:
        """Every record of a split once, read as validation reads its own, in batches of at most ``tokens_per_batch``."""
        held = Held(self, 0, 1, split)
        return (tokens for number in range(len(held)) for tokens in held[number].micro)

    def describe(self) -> dict[str, Any]:
        """Records of each source and split that are used, for the report."""
        return {
            split: {name: self._used(split, name, examples) for name, _, examples in parts}
            for split, parts in self._splits.items()
        }

    def _used(self, split: str, name: str, examples: Sequence[Example]) -> int:
        tested = name in {f"files.{n}" for n in self.test}
        capped = split == "validation" and not tested and self.validation_records is not None
        return min(len(examples), self.validation_records) if capped else len(examples)  # type: ignore[type-var, return-value]

    # -- loaders ---------------------------------------------------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader[StepBatch]:
        trainer = self.trainer
        assert trainer is not None
        steps = Steps(self, trainer.global_rank, trainer.world_size, dict(self.cursor))
        return Loader(steps, batch_size=None, num_workers=self.workers, persistent_workers=self.workers > 0)

    def val_dataloader(self) -> DataLoader[StepBatch]:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return DataLoader(Held(self, rank, world), batch_size=None)

    def pack(self, examples: Sequence[Example], epoch: int = VALIDATION_EPOCH) -> Tokens:
        """Records, tokenised and packed; see ``Packer``."""
        return self.packer(examples, [epoch] * len(examples))

    def tokenize(self, example: Example, epoch: int) -> Sample:
        """One record, tokenised; see ``Packer``."""
        return self.packer.tokenize(example, epoch)

    def fingerprint(self) -> dict[str, int]:
        """A hash of each source's training records and their labels, whatever their order."""
        if self._fingerprint is None:
            names = {name: identities(examples).sort().values for name, _, examples in self._splits["train"]}
            self._fingerprint = {name: hash64(sorted_N.numpy().tobytes()) for name, sorted_N in names.items()}
        return self._fingerprint

    def state_dict(self) -> dict[str, Any]:
        return {"cursor": self.cursor, "fingerprint": self.fingerprint()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises BadRecipe where the records are not those the run began with."""
        now = self.fingerprint()
        for name, before in state_dict["fingerprint"].items():
            if now.get(name) != before:
                raise BadRecipe(f"data {name!r}: its records are not those this run began with, so it cannot go on as it began")
        self.cursor = dict(state_dict["cursor"])
