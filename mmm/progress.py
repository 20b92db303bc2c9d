"""What a person sees while a run goes on: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

EVERY = 10.0
"""Seconds between plain lines."""


def progress() -> Callback:
    """The bar, or the lines."""
    return Bar() if sys.stderr.isatty() else Lines()


def _losses(training: LightningModule) -> str:
    terms = getattr(training, "last_terms", [])
    return "  ".join(f"{t.name} {float(t.total) / t.count:.3f}" for t in terms if t.count)


class Bar(Callback):
    """One bar for the run: steps, time left, the losses of the last step."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        console = Console(stderr=True)
        columns = (
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
        )
        self._bar = Progress(*columns, console=console)
        self._task = self._bar.add_task("steps", total=trainer.max_steps, completed=trainer.global_step, losses="")
        self._bar.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.is_global_zero:
            self._bar.update(self._task, completed=trainer.global_step, losses=_losses(pl_module))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop(trainer)

    def _stop(self, trainer: Trainer) -> None:
        if trainer.is_global_zero and hasattr(self, "_bar"):
            self._bar.stop()


class Lines(Callback):
    """A line at the first step, at the last, and every few seconds between."""

    def __init__(self) -> None:
        self._said = 0.0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        now = time.monotonic()
        last = trainer.global_step == trainer.max_steps
        if trainer.is_global_zero and (last or now - self._said >= EVERY):
            self._said = now
            print(f"step {trainer.global_step}/{trainer.max_steps}  {_losses(pl_module)}", file=sys.stderr, flush=True)
