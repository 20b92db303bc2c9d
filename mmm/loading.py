"""Trained models back, from wherever they are."""

from __future__ import annotations

from pathlib import Path

from .loaded import Loaded


def load(source: str | Path) -> Loaded:
    """A trained model with its objective and tokenizers, ready to use, in evaluation mode on the CPU.

    Args:
        source: a run folder (its newest checkpoint), a checkpoint file of a run, a transformers folder or hub name, a timm
            model name, a fair-esm checkpoint, the name of a torchaudio bundle.

    Raises:
        ValueError: where nothing is there, it cannot be read safely, or an import does not agree with its original.
    """
    from .sources import open_source

    return open_source(source).loaded()
