"""The files that a pattern names."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmm.core.errors import BadRecipe

from .tables import SUFFIXES


def find_files(pattern: str, suffixes: Sequence[str], where: str) -> list[Path]:
    """Files of a pattern: a file, a folder (searched through, linked folders too), or a glob; sorted. Hidden files, whose names
    begin with a dot, are found by their own names alone. Tables in a folder are not taken: they tell of the files beside them.

    Raises:
        BadRecipe: where nothing is found, or nothing with an ending that can be read.
    """
    path = Path(pattern).expanduser()
    if path.is_file():
        found = [path]
    elif path.is_dir():
        found = [p for p in _within(path) if p.is_file() and p.name.lower().endswith(tuple(suffixes))]
    else:
        found = [Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file()]
    if not found:
        raise BadRecipe(f"{where}: {pattern!r} matches no file ({', '.join((*suffixes, *SUFFIXES))} can be read)")
    for file in found:
        if not file.name.lower().endswith((*suffixes, *SUFFIXES)):
            raise BadRecipe(f"{where}: {file} cannot be read; endings that can: {', '.join((*suffixes, *SUFFIXES))}")
    return sorted(found)


def _within(root: Path) -> Iterator[Path]:
    """All that a folder holds and does not hide. One that links lead to again is read once, so they may run in a circle."""
    seen = {os.path.realpath(root)}
    for folder, folders, names in os.walk(root, followlinks=True):
        inner = {os.path.realpath(os.path.join(folder, n)): n for n in sorted(folders, reverse=True) if n[0] != "."}
        folders[:] = [name for real, name in inner.items() if real not in seen]
        seen |= inner.keys()
        yield from (Path(folder, name) for name in names if not name.startswith("."))
