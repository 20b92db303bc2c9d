"""What a recipe can name: lists and single pages, read from the index without importing a class."""

from __future__ import annotations

import inspect
from pathlib import Path

from . import plugins
from .core.errors import BadRecipe, did_you_mean
from .recipe import type_hints
from .yaml import load

FOLDERS = (Path(__file__).parent.parent / "recipes", Path(__file__).parent / "recipes")

UNNAMED = ("Tokenizer", "Baseline", "Rule")  # roles that other parts make, and no recipe names


def recipes() -> dict[str, Path]:
    """Every recipe that ships, by its path under ``recipes/``."""
    found = {}
    for folder in FOLDERS:
        if folder.is_dir():
            found |= {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*.yaml"))}
    return found


def _title(path: Path) -> str:
    first = path.read_text(encoding="utf-8").split("\n", 1)[0]
    load(path)
    return first.lstrip("# ").partition(" - ")[2] or first.lstrip("# ")


def listing(what: str | None = None) -> str:
    """A line for each recipe or class, grouped; ``what`` names one group."""
    groups: dict[str, list[tuple[str, str]]] = {"recipes": [(n, _title(p)) for n, p in recipes().items()]}
    for entry in plugins.index().values():
        if entry.role in UNNAMED:
            continue
        family = entry.module.split(".")[1] if entry.module.startswith("mmm.") else entry.distribution
        groups.setdefault(family, []).append((entry.name, entry.doc))
    if what is not None:
        if what not in groups:
            raise BadRecipe(f"nothing is listed under {what!r}. {did_you_mean(what, groups)}")
        groups = {what: groups[what]}
    lines = []
    for group, rows in groups.items():
        width = max((len(n) for n, _ in rows), default=0)
        lines += [group, *(f"  {n:<{width}}  {doc}" for n, doc in sorted(rows)), ""]
    return "\n".join(lines).rstrip()


def describe(name: str) -> str:
    """Documentation and arguments of one class."""
    entry = plugins.find(name, None, "show")
    cls = entry.load()
    return f"{entry.name}{_signature(cls)}\n{entry.role} of {entry.distribution}, {entry.module}\n\n{inspect.getdoc(cls)}"


def _signature(cls: type) -> inspect.Signature:
    """The arguments with their types, which modules that postpone annotations hold as strings."""
    signature = inspect.signature(cls)
    try:
        hints = type_hints(cls)
    except Exception:  # a name that only type checkers import; whatever else an annotation of others may raise
        hints = {}
    parameters = [p.replace(annotation=hints.get(name, p.annotation)) for name, p in signature.parameters.items()]
    return signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
