"""Checkpoint files of older libraries: tensors beside their training arguments, read without unpickling anything else.

Shape suffixes: none.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from mmm.core.errors import BadRecipe


def read(path: Path) -> dict[str, Any]:
    """A .pt file of tensors, plain values and ``argparse.Namespace``.

    Raises:
        BadRecipe: it is cut short, or holds anything else.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            value = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BadRecipe(f"{path}: not a checkpoint that can be read safely ({reason})") from error
    if not isinstance(value, dict) or not isinstance(value.get("model"), dict):
        raise BadRecipe(f"{path}: holds no model under 'model', which checkpoints of fairseq and fair-esm do")
    return value


def peek(path: Path) -> dict[str, Any]:
    """The same, empty where it cannot be read or is no such checkpoint."""
    try:
        return read(path)
    except BadRecipe:
        return {}


def arguments(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The training arguments, by name; empty where there are none."""
    said = checkpoint.get("args")
    if said is None and isinstance(checkpoint.get("cfg"), dict):
        said = checkpoint["cfg"].get("model")
    return dict(vars(said)) if isinstance(said, argparse.Namespace) else {}
