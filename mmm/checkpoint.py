"""Checkpoints: written whole or not at all, read without unpickling."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO


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


def load_checkpoint(path: Any, map_location: Any = "cpu") -> dict[str, Any]:
    """The contents of a local checkpoint file.

    Raises:
        ValueError: where it is missing, cut short, or holds anything but tensors and plain values.
    """
    if "://" in str(path):
        raise ValueError(f"{path}: only local checkpoint files are read; fetch it first")
    try:
        return torch.load(path, map_location=map_location, weights_only=True)  # type: ignore[no-any-return]
    except FileNotFoundError:
        raise ValueError(f"{path}: no such checkpoint") from None
    except Exception as error:
        raise ValueError(f"{path}: not a checkpoint that can be read safely ({str(error).splitlines()[0]})") from error


def newest(folder: Path) -> Path | None:
    """The checkpoint of the latest step in a run's folder, None where there is none."""
    found = sorted((folder / "checkpoints").glob("step-*.ckpt"), key=lambda p: int(p.stem.partition("-")[2]))
    return found[-1] if found else None
