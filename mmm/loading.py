"""Trained models back from a run folder or a checkpoint file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .checkpoint import load_checkpoint, newest
from .core.errors import BadRecipe
from .core.training import Training
from .recipe import Recipe, instantiate, resolve
from .yaml import loads


def load(source: str | Path) -> Training:
    """A trained model with its objective and tokenizers, ready to use, in evaluation mode on the CPU.

    Args:
        source: a run folder (its newest checkpoint) or a checkpoint file of a run. The file alone is enough.

    Raises:
        ValueError: where nothing is there, or it is not a checkpoint of a run.
    """
    path = Path(source)
    if path.is_dir():
        found = newest(path)
        if found is None:
            raise BadRecipe(f"{path}: holds no checkpoint (checkpoints/step-*.ckpt); train first, or name a run folder")
        path = found
    checkpoint = load_checkpoint(path)
    if not isinstance(checkpoint.get("mmm_recipe"), str):
        raise BadRecipe(f"{path}: a checkpoint, but not of a run of this package (it names no recipe)")
    values = resolve(loads(checkpoint["mmm_recipe"], str(path)), str(path))
    training = instantiate(Recipe(path.stem, values))
    try:
        training.restore(assets_of(checkpoint))
        training.load_state_dict(checkpoint["state_dict"])
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise BadRecipe(f"{path}: its parts do not fit its recipe: {' '.join(str(error).split())[:400]}") from error
    return training.eval()


def assets_of(checkpoint: dict[str, Any]) -> dict[str, dict[str, bytes]]:
    """The fitted parts' files, by address."""
    return {
        address: {file: bytes(data.numpy().tobytes()) for file, data in assets.items()}
        for address, assets in checkpoint["mmm_assets"].items()
    }
