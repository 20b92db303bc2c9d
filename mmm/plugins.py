"""What there is to name in a recipe: an index of class names, made by reading files, not by importing them.

A class counts when it stands in a family folder (or in a package that another distribution declares under the entry point group
``mmm.plugins``) and descends from a role of ``mmm.core`` or of a family. Nothing outside the index is ever imported for a
recipe.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .core.errors import BadRecipe, did_you_mean

GROUP = "mmm.plugins"
FAMILIES = ("modalities", "masking", "corruptions", "targets", "objectives", "encoders", "decoders", "adapters", "interop")


@dataclass(frozen=True)
class Entry:
    """One class a recipe can name.

    Args:
        name: bare class name. module: where it stands. role: the abstract class it fills. doc: first line of its docstring.
        distribution: the package it came with.
    """

    name: str
    module: str
    role: str
    doc: str
    distribution: str

    def load(self) -> type[Any]:
        """Import the class.

        Raises:
            BadRecipe: where its module cannot be imported; names the package.
        """
        try:
            return getattr(importlib.import_module(self.module), self.name)  # type: ignore[no-any-return]
        except Exception as error:
            if self.distribution == "mmm-pretrain":
                raise
            raise BadRecipe(f"{self.name} of the package {self.distribution} cannot be imported: {error!r}") from error


def _classes(path: Path) -> list[tuple[str, list[str], str]]:
    """(name, names of bases, first line of the docstring) of a file's classes."""
    found = []
    for node in ast.parse(path.read_text(encoding="utf-8"), str(path)).body:
        if isinstance(node, ast.ClassDef):
            bases = [b.attr if isinstance(b, ast.Attribute) else getattr(b, "id", "") for b in node.bases]
            doc = (ast.get_docstring(node) or "").strip().split("\n")[0]
            found.append((node.name, bases, doc))
    return found


def _sources() -> list[tuple[str, str, Path]]:
    """(distribution, module, file) of everything that is scanned."""
    here = Path(__file__).parent
    files = [
        ("mmm-pretrain", f"mmm.{family}.{file.stem}", file)
        for family in FAMILIES
        for file in sorted((here / family).glob("*.py"))
    ]
    for point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda p: p.name):
        package = point.value.partition(":")[0]
        spec = importlib.util.find_spec(package.partition(".")[0])
        if spec is None or not spec.submodule_search_locations:
            continue  # declared, but its files are gone; `mmm doctor` reports it
        root = Path(spec.submodule_search_locations[0])
        distribution = point.dist.name if point.dist else package
        for file in sorted(root.rglob("*.py")):
            dotted = ".".join([package.partition(".")[0], *file.relative_to(root).with_suffix("").parts])
            files.append((distribution, dotted.removesuffix(".__init__"), file))
    return files


@cache
def index() -> dict[str, Entry]:
    """Every class a recipe can name, by bare name.

    Raises:
        BadRecipe: where two packages claim one name.
    """
    here = Path(__file__).parent
    scanned = []
    for distribution, module, file in _sources():
        try:
            scanned += [(distribution, module, *c) for c in _classes(file)]
        except (SyntaxError, UnicodeDecodeError) as error:
            raise BadRecipe(f"the package {distribution} holds a file that is no Python: {file} ({error})") from error
    core = [("mmm-pretrain", f"mmm.core.{f.stem}", *c) for f in sorted((here / "core").glob("*.py")) for c in _classes(f)]
    roles = {name: name for _, _, name, bases, _ in [*core, *scanned] if "ABC" in bases}
    entries: dict[str, Entry] = {}
    pending = [c for c in [*core, *scanned] if "ABC" not in c[3] and not c[2].startswith("_")]
    while True:  # classes that descend from classes found so far
        grown = [c for c in pending if any(b in roles for b in c[3])]
        if not grown:
            return entries
        for distribution, module, name, bases, doc in grown:
            if name in entries and entries[name].module != module:
                both = sorted({entries[name].distribution, distribution})
                raise BadRecipe(
                    f"two classes are called {name!r}: {entries[name].module} and {module}, of {' and '.join(both)}"
                )
            roles[name] = next(roles[b] for b in bases if b in roles)
            if not module.rpartition(".")[2].startswith("_"):  # private files lend classes their role, not their names
                entries[name] = Entry(name, module, roles[name], doc, distribution)
        pending = [c for c in pending if c not in grown]


def of_role(role: str) -> list[str]:
    """Names of the classes that fill a role."""
    return sorted(n for n, e in index().items() if e.role == role)


def find(name: str, role: str | None, where: str) -> Entry:
    """The class called ``name``.

    Args:
        role: the abstract class wanted there, if one is known. where: the place in the recipe, for the error.

    Raises:
        BadRecipe: with the choices, and the likely cause.
    """
    bare = name.rpartition(".")[2]
    entry = index().get(bare)
    if entry is None or (name != bare and f"{entry.module}.{entry.name}" != name):
        choices = of_role(role) if role else list(index())
        raise BadRecipe(f"{where}: no class {name!r}. {did_you_mean(bare, choices)} A plugin's class needs that package.")
    if role and entry.role != role:
        raise BadRecipe(f"{where}: {name} is a {entry.role}, but a {role} is needed here. {did_you_mean(bare, of_role(role))}")
    return entry
