"""What becomes of a model's old modalities while it grows: proved unchanged before the first step, measured after the last.

Shape suffixes: R records.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from .core.errors import BadRecipe
from .core.training import Training
from .data.module import Data
from .loaded import Loaded
from .runlog import write_whole
from .skill import Baselines, Score, interval, scored, summed
from .sources import Source, open_source
from .start import plain
from .unchanged import compare, probes

log = logging.getLogger("mmm")

STEP0, PROOF = "step0", "proof.json"


class Growth(Callback):
    """Writes ``step0``, the grown model before its first step, proves it, and measures after training.

    Args:
        source: the model that grows. old: data of its modalities. new: those it gets. body: factor on the learning rate of
            what it had.
    """

    def __init__(self, source: Source, old: Sequence[Data], new: Sequence[str], body: float):
        self.source, self.old, self.new, self.body = source, list(old), list(new), body
        self.probes: dict[str, Sequence[Any]] = {}
        self.reference: Loaded

    @property
    def names(self) -> list[str]:
        """The old modalities."""
        return list(self.source.values["model"]["modalities"])

    def prepare(self) -> None:
        """Read the records that the old modalities are proved on.

        Raises:
            ValueError: they cannot be read, or there are none of some modality.
        """
        self.reference = plain(self.source)
        for data in self.old:
            try:
                data.prepare_data()
                data.read(self.reference.modalities, self.reference.seed)
            except ValueError as error:
                raise BadRecipe(f"old modalities are proved on their own records: {error}; or name others, {HOW}") from error
            self.probes |= {n: found for n, found in probes(data, self.names).items() if found}
        missing = [n for n in self.names if n not in self.probes]
        if missing and self.source.architecture is not None:
            first, *missing = missing
            self.probes[first] = self.source.architecture.pieces(self.reference)
        if missing:
            raise BadRecipe(
                f"{self.source.name}: no records of {', '.join(missing)} are at hand, to prove that nothing changes there; "
                f"name some, {HOW}"
            )

    # -- before the first step -------------------------------------------------------------------------------------------------

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Training)
        if pl_module.start is None:  # resumed: that was done
            return
        folder = Path(trainer.default_root_dir) / STEP0
        trainer.save_checkpoint(folder / "checkpoints" / "step-0.ckpt")
        if trainer.is_global_zero:
            write_whole(folder / "recipe.yaml", pl_module.recipe)
            self._prove(folder)
        trainer.strategy.barrier()

    def _prove(self, folder: Path) -> None:
        """Raises BadRecipe, and takes the folder away, where an old modality's outputs are not those of the source."""
        grown, proof = open_source(folder).loaded(), {}
        for name in self.names:
            found = compare(self.reference, grown, name, self.probes[name])
            if not found.equal:
                shutil.rmtree(folder)
                raise BadRecipe(
                    f"the outputs of {name!r} are no longer those of {self.source.name}: {found.what} differs by "
                    f"{found.largest:.1e} on {found.records} records, before any step. A part of the model depends on which "
                    "modalities there are beside it; such a model cannot grow"
                )
            log.info(
                "step 0: the outputs of %r are those of %s, bit for bit (%d records, %s numbers)",
                *(name, self.source.name, found.records, f"{found.numbers:,}"),
            )
            proof[name] = {"records": found.records, "numbers": found.numbers}
        write_whole(folder / PROOF, json.dumps({"source": self.source.name, "equal": proof}, indent=2) + "\n")

    # -- after the last --------------------------------------------------------------------------------------------------------

    def facts(self, trainer: Trainer, training: Training) -> dict[str, Any]:
        """What ``summary.json`` says under ``grown``; all processes take part.

        Returns:
            ``source``, ``new``, ``body``; ``step0``: records and numbers that were equal, by old modality; ``old``: for each
            that could be scored, ``before`` and ``after`` (its skill then), ``moved`` (value, low, high: after less before,
            over the same records; 99 % interval by resampling), ``equal`` and ``largest_difference`` (of outputs, likewise).
        """
        if trainer.is_global_zero:
            log.info("measuring the old modalities on their validation data, before and after")
        folder = Path(trainer.default_root_dir) / STEP0
        before = open_source(folder).loaded().to(training.device)
        moves: dict[str, dict[str, Any]] = {}
        with _said():
            for data in self.old:
                data.trainer = trainer  # its precision, its processes
                data.prepare_data()
                data.read(training.modalities, training.seed)
                moves |= _moves(before, training, data)
                for name, records in probes(data, self.names).items():
                    if name in moves and records:
                        found = compare(before, training, name, records)
                        moves[name] |= {"equal": found.equal, "largest_difference": found.largest}
        proof = json.loads((folder / PROOF).read_text(encoding="utf-8"))
        return {"source": self.source.name, "new": self.new, "body": self.body, "step0": proof["equal"], "old": moves}


HOW = "--records NAME=FILES"


@contextmanager
def _said() -> Iterator[None]:
    """Once is enough: what the run that learned them said of these data, and the check before the first step."""
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def _moves(before: Training, after: Training, data: Data) -> dict[str, dict[str, Any]]:
    """The skill of each modality of these data, before and after."""
    baselines: Baselines = {}
    first, facts = scored(before, data, baselines=baselines)
    last, _ = scored(after, data, baselines=baselines)
    moves = {}
    for name, scores in first.items():
        if sum(s.baseline for s in scores):
            skills = [summed(before, name, s, facts[name]) for s in (scores, last[name])]
            moved = _moved(before, name, scores, last[name])
            moves[name] = {"before": asdict(skills[0]), "after": asdict(skills[1]), "moved": moved}
    return moves


def _moved(before: Training, name: str, first: Sequence[Score], last: Sequence[Score]) -> dict[str, float]:
    """The difference of two skills over the same records, and its interval."""
    baseline_R = np.array([s.baseline for s in first])
    gained_R = np.array([a.loss - b.loss for a, b in zip(first, last, strict=True)])
    low, high = interval(baseline_R - gained_R, baseline_R, before.draw.stream("bootstrap").stream(name))
    return {"value": float(gained_R.sum() / baseline_R.sum()), "low": low, "high": high}


def lines(grown: Mapping[str, Any], skill: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The same facts for people, and the skill of the new modalities."""
    width = max(map(len, [*grown["step0"], *grown["new"], "modality"]))
    told = [f"{'modality':<{width}}  {'skill before':<25}{'after':<25}moved"]
    for name in grown["step0"]:
        move = grown["old"].get(name)
        if move is None:
            told.append(f"{name:<{width}}  not scored: the objective gives no answers, or there are no records")
            continue
        cells = [_interval(move[key]) for key in ("before", "after", "moved")]
        same = ", the same bits" if move["equal"] else f", outputs off by up to {move['largest_difference']:.2g}"
        told.append(f"{name:<{width}}  {cells[0]:<25}{cells[1]:<25}{cells[2]}{same}")
    for name in grown["new"]:
        told.append(f"{name:<{width}}  {'new':<25}{_interval(skill[name]) if name in skill else 'not scored'}")
    return told


def _interval(skill: Mapping[str, Any]) -> str:
    return f"{skill['value']:.3f} [{skill['low']:.3f}, {skill['high']:.3f}]"
