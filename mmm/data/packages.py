"""Packages of others that add to mmm: which are installed, and where their files lie. None of them is imported to know that."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

GROUP = "mmm.plugins"
"""The entry point group under which a distribution declares its package."""


@dataclass(frozen=True)
class Package:
    """What one entry point declares.

    Args:
        distribution: what pip calls it. name: what Python imports.
        files: its folder, or the one file of a module that is no package; None where it is declared and gone.
    """

    distribution: str
    name: str
    files: Path | None

    def folders(self, kind: str) -> list[Path]:
        """Its folders of a kind (``recipes``, ``data_cards``): inside the package, and beside it in a project's own folder."""
        if self.files is None or not self.files.is_dir():
            return []
        beside = [self.files.parent / kind] if (self.files.parent / "pyproject.toml").is_file() else []
        return [folder for folder in (self.files / kind, *beside) if folder.is_dir()]

    def modules(self) -> Iterator[tuple[str, Path]]:
        """(dotted name, file) of all its Python files."""
        if self.files is None:
            return
        if self.files.is_file():
            yield self.name, self.files
            return
        for file in sorted(self.files.rglob("*.py")):
            dotted = ".".join([self.name, *file.relative_to(self.files).with_suffix("").parts])
            yield dotted.removesuffix(".__init__"), file


def packages() -> list[Package]:
    """Every package that the entry points of other distributions declare, in the order of their names."""
    found: dict[tuple[str, str], Package] = {}
    for point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda p: p.name):
        name = point.value.partition(":")[0].partition(".")[0].strip()
        distribution = point.dist.name if point.dist else name
        found.setdefault((distribution, name), Package(distribution, name, _files(name)))
    return list(found.values())


def same(one: str, other: str) -> bool:
    """Whether two names are one distribution's, as pip compares them: case, ``-``, ``_`` and ``.`` make no difference."""
    return _plain(one) == _plain(other)


def _plain(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _files(name: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # no name of a module, or one that is loaded and has no origin
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return next((Path(place) for place in spec.submodule_search_locations if Path(place).is_dir()), None)
    return Path(spec.origin) if spec.origin and Path(spec.origin).is_file() else None
