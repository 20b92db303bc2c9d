"""The files that a pattern names."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from mmm.core.errors import BadRecipe

from .tables import SUFFIXES


def find_files(pattern: str, suffixes: Sequence[str], where: str) -> list[Path]:
    """Files of a pattern: a file, a folder (searched through), or a glob; sorted. Tables in a folder are not taken: they tell
    of the files beside them.

    Raises:
        BadRecipe: where nothing is found, or nothing with an ending that can be read.
    """
    path = Path(pattern).expanduser()
    if path.is_file():
        found = [path]
    elif path.is_dir():
        found = [p for p in path.rglob("*") if p.is_file() and p.name.lower().endswith(tuple(suffixes))]
    else:
        found = [Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file()]
    if not found:
        raise BadRecipe(f"{where}: {pattern!r} matches no file ({', '.join((*suffixes, *SUFFIXES))} can be read)")
    for file in found:
        if not file.name.lower().endswith((*suffixes, *SUFFIXES)):
            raise BadRecipe(f"{where}: {file} cannot be read; endings that can: {', '.join((*suffixes, *SUFFIXES))}")
    return sorted(found)
