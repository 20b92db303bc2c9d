"""mmm: multimodal masked modelling around one shared encoder.

``mmm.load(source)`` gives a trained model back; everything else a recipe needs is named in the recipe.
"""

from __future__ import annotations

import importlib.metadata
from typing import Any

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """Names are imported when they are asked for, so that ``import mmm`` costs nothing."""
    if name == "load":
        from .loading import load

        return load
    if name == "__version__":
        return importlib.metadata.version("mmm-pretrain")
    raise AttributeError(f"module 'mmm' has no attribute {name!r}")
