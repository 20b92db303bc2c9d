"""Checkpoints: written whole or not at all, read without unpickling."""

from __future__ import annotations

import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint


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
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return load_checkpoint(path, map_location)


class Checkpoints(Checkpoint):
    """Saves every so many steps and at the end, and keeps the latest few.

    Args:
        folder: of the checkpoints. every: steps between them. keep: how many stay.
    """

    def __init__(self, folder: Path, every: int, keep: int = 2):
        self.folder, self.every, self.keep = folder, every, keep

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        step = trainer.global_step
        if step % self.every and step != trainer.max_steps:
            return
        trainer.save_checkpoint(self.folder / f"step-{step}.ckpt")
        if trainer.is_global_zero:
            for old in by_step(self.folder)[: -self.keep]:
                old.unlink()


def by_step(folder: Path) -> list[Path]:
    """A run's checkpoints, the latest last."""
    return sorted(folder.glob("step-*.ckpt"), key=lambda p: int(p.stem.partition("-")[2]))


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
