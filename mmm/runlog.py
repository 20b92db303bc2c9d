"""What a run leaves while it trains: the loss of every step, the pace, and where the data stand."""

from __future__ import annotations

import csv
import io
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from time import perf_counter
from typing import Any, TextIO

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn

from .core.batch import StepBatch
from .core.training import Training
from .skill import gathered
from .work import Work, peak

log = logging.getLogger("mmm")
HEADER = ("step", "term", "total", "count")


class RunLog(Callback):
    """Writes ``losses.csv``, measures the pace, and keeps the data's cursor at the step that was last taken.

    ``losses.csv`` has a row a step and term: the sum of its losses and what it is a sum over, over all processes, to the
    last bit; their ratio is the loss. A resumed run first cuts off what was written after its checkpoint. The pace is kept
    in the checkpoint, so a summary is one of the whole run.
    """

    def __init__(self) -> None:
        self._clock, self._work = _DataClock(), Work()
        self._peak: float | None = None  # operations a second of one process's device
        self._rows: TextIO | None = None
        self._tokens, self._seconds, self._waited = 0, 0.0, 0.0
        self._budget = 0  # tokens a step may have
        self._since: float | None = None  # when training last went on; None while it stands
        self._steps = self._processes = 0
        self._held: dict[str, tuple[float, float]] = {}

    def summary(self) -> dict[str, Any]:
        """The pace of the whole run, and the validation loss of each term, the last that was measured.

        ``tokens`` are real ones: there is no padding; ``fill`` is their share of what the batches have room for. ``seconds``
        are those of training, without validation and reports; ``waiting`` is the share of them in which the first process
        waited for data, None where another profiler than the default is in use. ``flops`` are operations a second of the
        products; ``utilisation`` is their share of what a large product reaches on this hardware in this precision; both None
        where the run was too short to be counted.
        """
        seconds = self._elapsed()
        pace = self._tokens / seconds if seconds else 0.0
        per_token = self._work.flops_per_token
        return {
            "steps": self._steps,
            "tokens": self._tokens,
            "fill": self._tokens / (self._steps * self._budget) if self._steps and self._budget else None,
            "seconds": seconds,
            "tokens_per_second": pace,
            "flops": pace * per_token if per_token else None,
            "utilisation": pace * per_token / (self._processes * self._peak) if per_token and self._peak else None,
            "waiting": self._waiting() / seconds if seconds and self._clock.started else None,
            "processes": self._processes,
            "validation": {name: total / count for name, (total, count) in self._held.items() if count},
        }

    # -- hooks -----------------------------------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if type(trainer.profiler) is PassThroughProfiler:  # type: ignore[attr-defined]
            trainer.profiler = self._clock  # type: ignore[attr-defined]  # the one place where Lightning tells of waiting

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._steps, self._processes = trainer.global_step, trainer.world_size
        if trainer.datamodule is not None:  # type: ignore[attr-defined]
            self._budget = trainer.datamodule.tokens_per_batch  # type: ignore[attr-defined]
        if trainer.is_global_zero:
            path = Path(trainer.default_root_dir) / "losses.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            cut(path, trainer.global_step)
            self._rows = path.open("a", newline="", encoding="utf-8")
            trained, total = trained_share(pl_module.trained())  # type: ignore[operator]
            if trained < total:
                log.info("trained: %s of %s parameters (%.3g %%)", f"{trained:,}", f"{total:,}", 100 * trained / total)
        self._since = perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: StepBatch, batch_idx: int) -> None:
        self._work.begin()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: StepBatch, batch_idx: int
    ) -> None:
        """Callbacks that save come after this one, so a checkpoint has the cursor of its own step."""
        assert isinstance(pl_module, Training)
        self._work.end(pl_module.last_tokens / trainer.world_size)
        self._steps = trainer.global_step
        self._tokens += pl_module.last_tokens
        if self._rows is not None:
            rows = csv.writer(self._rows, lineterminator="\n")
            rows.writerows((self._steps, t.name, float(t.total), float(t.count)) for t in pl_module.last_terms)
            self._rows.flush()
        if batch.cursor and trainer.datamodule is not None:  # type: ignore[attr-defined]
            trainer.datamodule.cursor = dict(batch.cursor)  # type: ignore[attr-defined]

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stand()
        self._held = {}

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        _add(self._held, {t.name: (float(t.total), t.count) for t in outputs})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        shares, self._held = gathered(self._held), {}
        for share in shares:
            _add(self._held, share)
        if trainer.state.fn == TrainerFn.FITTING:
            self._since = perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._close()
        if self._work.flops_per_token and trainer.is_global_zero:
            half = "bf16" in str(trainer.precision)
            self._peak = peak(pl_module.device, torch.bfloat16 if half else torch.float32)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._work.abandon()
        self._close()

    def state_dict(self) -> dict[str, Any]:
        return {"tokens": self._tokens, "seconds": self._elapsed(), "waited": self._waiting()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._tokens, self._seconds = int(state_dict["tokens"]), float(state_dict["seconds"])
        self._waited = float(state_dict["waited"])

    # -- the clock -------------------------------------------------------------------------------------------------------------

    def _elapsed(self) -> float:
        return self._seconds + (perf_counter() - self._since if self._since is not None else 0.0)

    def _waiting(self) -> float:
        return self._waited + self._clock.seconds

    def _stand(self) -> None:
        self._seconds, self._since = self._elapsed(), None

    def _close(self) -> None:
        self._stand()
        if self._rows is not None:
            self._rows.close()
            self._rows = None


class _DataClock(PassThroughProfiler):
    """The seconds that Lightning spends on getting the next batch."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds, self.started = 0.0, False
        self._from = 0.0

    def start(self, action_name: str) -> None:
        if action_name.endswith("train_dataloader_next"):
            self.started, self._from = True, perf_counter()

    def stop(self, action_name: str) -> None:
        if action_name.endswith("train_dataloader_next"):
            self.seconds += perf_counter() - self._from


def trained_share(parameters: Iterable[nn.Parameter]) -> tuple[int, int]:
    """(trained, all) numbers of parameters."""
    sizes = [(p.numel(), p.requires_grad) for p in parameters]
    return sum(n for n, trained in sizes if trained), sum(n for n, _ in sizes)


def losses(path: Path) -> dict[str, list[tuple[int, float, float]]]:
    """(step, total, count) of each term in a ``losses.csv``; a line that a crash cut short ends it."""
    found: dict[str, list[tuple[int, float, float]]] = {}
    for step, term, total, count in _complete(path):
        found.setdefault(term, []).append((int(step), float(total), float(count)))
    return found


def cut(path: Path, step: int) -> None:
    """Leave the rows of a ``losses.csv`` up to a step, in one go; without any, or without the file, the header alone."""
    rows = [row for row in _complete(path) if int(row[0]) <= step] if step and path.exists() else []
    last = int(rows[-1][0]) if rows else 0
    if last < step:
        log.warning("%s: the losses of steps %d to %d are missing", path, last + 1, step)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([HEADER, *rows])
    write_whole(path, text.getvalue())


def _complete(path: Path) -> list[list[str]]:
    """The rows without the header, each as it is written, up to the first that is not whole."""
    with path.open(newline="", encoding="utf-8") as file:
        whole, newline, _ = file.read().rpartition("\n")
    rows = list(csv.reader(io.StringIO(whole + newline)))[1:]
    short = next((i for i, row in enumerate(rows) if len(row) != len(HEADER)), len(rows))
    return rows[:short]


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that it is there whole, as it was, or not at all; nothing stays beside it."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _add(sums: dict[str, tuple[float, float]], more: dict[str, tuple[float, float]]) -> None:
    for name, (total, count) in more.items():
        had_total, had_count = sums.get(name, (0.0, 0.0))
        sums[name] = (had_total + total, had_count + count)
