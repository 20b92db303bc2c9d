"""Checkpoints: written whole or not at all, read without unpickling."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import threading
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

log = logging.getLogger("mmm")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the destination, flushes to the disk, then renames: a crash leaves the old file or the new one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=path.name, suffix=".part", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException as error:
            Path(name).unlink(missing_ok=True)
            if isinstance(error, OSError):
                error.filename = error.filename or str(path)  # a full disk names no file
            raise

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return load_checkpoint(path, map_location)


class Checkpoints(Checkpoint):
    """Saves every so many steps and when training ends, and keeps the latest few.

    A process that trains alone and is told to stop (Ctrl-C, SIGTERM) ends its step, saves and stops; told twice, at once.

    Args:
        folder: of the checkpoints. every: steps between them. keep: how many stay.
    """

    def __init__(self, folder: Path, every: int, keep: int = 2):
        self.folder, self.every, self.keep = folder, every, keep
        self._in_step = self._stop = False
        self._saved = 0  # the step of the latest
        self._before: dict[int, Any] = {}  # what signals did

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._in_step, self._stop, self._saved = False, False, trainer.global_step
        if trainer.world_size == 1 and threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._told) for number in (signal.SIGINT, signal.SIGTERM)}

    def on_train_batch_start(self, *_: Any) -> None:
        self._in_step = True

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        step = trainer.global_step
        if step % self.every == 0 or step == trainer.max_steps:
            self._save(trainer)
        self._in_step = False
        if self._stop:
            raise KeyboardInterrupt

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer)  # where it ended early: trainer.max_time
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, KeyboardInterrupt) and self._before and not self._in_step:
            self._save(trainer)
        self._restore()

    def _told(self, number: int, frame: Any) -> None:
        if not self._in_step or self._stop:
            raise KeyboardInterrupt
        self._stop = True
        log.info("stopping after this step; once more stops at once")

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _save(self, trainer: Trainer) -> None:
        step = trainer.global_step
        if step == self._saved:
            return
        trainer.save_checkpoint(self.folder / f"step-{step}.ckpt")
        self._saved = step
        if trainer.is_global_zero:
            for old in by_step(self.folder)[: -self.keep]:
                old.unlink()


def by_step(folder: Path) -> list[Path]:
    """A run's checkpoints, the latest last; files of other names are passed over."""
    return sorted((path for path in folder.glob("step-*.ckpt") if path.stem.removeprefix("step-").isdecimal()), key=step_of)


def step_of(checkpoint: Path) -> int:
    """The step after which one of ``by_step`` was saved."""
    return int(checkpoint.stem.removeprefix("step-"))


def load_checkpoint(path: Any, map_location: Any = "cpu") -> dict[str, Any]:
    """The contents of a local checkpoint file.

    Raises:
        ValueError: where it is missing, cut short, damaged, or holds anything but tensors and plain values.
    """
    if "://" in str(path):
        raise ValueError(f"{path}: only local checkpoint files are read; fetch it first")
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as members:  # torch writes checksums, and does not look at them
                if (damaged := members.testzip()) is not None:
                    raise ValueError(f"{damaged} is not what its checksum says; the file is damaged")
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except FileNotFoundError:
        raise ValueError(f"{path}: no such checkpoint") from None
    except Exception as error:  # torch raises many kinds
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(f"{path}: not a checkpoint that can be read safely ({reason})") from error
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{path}: holds a {type(checkpoint).__name__}, not a checkpoint")
    return checkpoint


def newest(folder: Path) -> Path | None:
    """The checkpoint of the latest step in a run's folder, None where there is none."""
    found = by_step(folder / "checkpoints")
    return found[-1] if found else None
