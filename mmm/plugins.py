"""What there is to name in a recipe: an index of class names, made by reading files, not by importing them.

A class counts when it stands in a family folder (or in a package that another distribution declares under the entry point group
``mmm.plugins``) and descends from a role of ``mmm.core`` or of a family. Nothing outside the index is ever imported for a
recipe.
"""

from __future__ import annotations

import ast
import importlib
import logging
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .core.errors import BadRecipe, did_you_mean
from .data.packages import GROUP, packages, same

__all__ = ["FAMILIES", "GROUP", "OURS", "Entry", "faults", "find", "index", "needed", "of_role", "require"]

log = logging.getLogger("mmm")

OURS = "mmm-pretrain"
FAMILIES = (
    "modalities",
    "masking",
    "corruptions",
    "targets",
    "objectives",
    "encoders",
    "decoders",
    "optimizers",
    "adapters",
    "samplers",
    "interop",
)


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
        except (Exception, SystemExit) as error:
            if self.distribution == OURS:
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
    files = [(OURS, f"mmm.{family}.{file.stem}", file) for family in FAMILIES for file in sorted((here / family).glob("*.py"))]
    return files + [(p.distribution, module, file) for p in packages() for module, file in p.modules()]


@cache
def _scanned() -> tuple[list[tuple[str, str, str, list[str], str]], dict[str, str]]:
    """((distribution, module, *class) of all that is scanned; what is wrong with a distribution's files, by its name)."""
    scanned, wrong = [], {}
    for distribution, module, file in _sources():
        try:
            scanned += [(distribution, module, *c) for c in _classes(file)]
        except (OSError, SyntaxError, ValueError) as error:
            if distribution == OURS:
                raise
            wrong[distribution] = f"holds a file that is no Python: {file} ({error})"
            log.warning("the package %s %s; what stands in it cannot be named in a recipe", distribution, wrong[distribution])
    return scanned, wrong


def faults() -> dict[str, str]:
    """What is wrong with the files of installed plugins, by distribution; the rest of them can be used."""
    gone = {p.distribution: f"is declared, but there is no package {p.name!r}: reinstall it" for p in packages() if not p.files}
    return {**gone, **_scanned()[1]}


@cache
def index() -> dict[str, Entry]:
    """Every class a recipe can name, by bare name.

    Raises:
        BadRecipe: where two packages claim one name.
    """
    here = Path(__file__).parent
    scanned, _ = _scanned()
    core = [(OURS, f"mmm.core.{f.stem}", *c) for f in sorted((here / "core").glob("*.py")) for c in _classes(f)]
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


def needed(value: Any) -> list[str]:
    """The distributions, but for this one, of all classes that the values of a recipe name; sorted."""
    if isinstance(value, dict):
        own = index().get(str(value.get("class_path", "")).rpartition(".")[2])
        found = {d for v in value.values() for d in needed(v)} | ({own.distribution} if own else set())
    else:
        found = {d for v in value for d in needed(v)} if isinstance(value, (list, tuple)) else set()
    return sorted(found - {OURS})


def require(wanted: Any, where: str) -> list[str]:
    """The distributions that a recipe says it needs, as it calls them.

    Args:
        wanted: what stands under ``plugins``. where: the recipe, for the error.

    Raises:
        BadRecipe: it is no list of names, or one of them is not installed, or its files are gone; says what to do.
    """
    wanted = wanted or []
    if not isinstance(wanted, list) or not all(isinstance(p, str) for p in wanted):
        raise BadRecipe(f"{where}: plugins is {wanted!r}; expected a list of package names")
    there = packages()
    for package in wanted:
        found = [p for p in there if same(package, p.distribution)]
        if not found and not same(package, OURS):
            raise BadRecipe(f"{where}: this recipe needs the package {package}, which is not installed: pip install {package}")
        if found and not any(p.files for p in found):
            raise BadRecipe(f"{where}: this recipe needs the package {package}, which {faults()[found[0].distribution]}")
    return list(wanted)
