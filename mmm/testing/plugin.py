"""Everything that an installed plugin brings, checked.

Shape suffixes: none.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from importlib.metadata import entry_points
from multiprocessing.pool import Pool
from pathlib import Path

from mmm import plugins
from mmm.catalogue import UNNAMED
from mmm.core.errors import BadRecipe, did_you_mean
from mmm.core.modality import Modality
from mmm.data.cards import load_card
from mmm.data.packages import GROUP, Package, packages, same
from mmm.recipe import resolve
from mmm.yaml import load

from .cases import Samples, cases, recipes
from .checks import ModalityChecks
from .outcome import Outcome, attempt
from .parts import check_part


def check_plugin(name: str) -> None:
    """Check everything that an installed plugin brings; for its own tests.

    Args:
        name: of its distribution (``mmm-x``), of its entry point or of its package.

    Raises:
        AssertionError: what failed and how it is mended, a line each. BadRecipe: there is no such plugin.
    """
    failed = [o for o in examine(name) if not o.ok]
    assert not failed, "\n" + "\n".join(f"{o.part}: {o.check}: {o.failure}\n    mend: {o.mend}" for o in failed)


def find_plugin(name: str) -> list[Package]:
    """The packages of an installed plugin.

    Args:
        name: of its distribution, of its entry point or of its package.

    Raises:
        BadRecipe: there is none; names those that are installed.
    """
    installed = packages()
    found = [p for p in installed if same(name, p.distribution) or name == p.name] or _by_entry_point(name, installed)
    if not found:
        choices = {p.distribution for p in installed}
        raise BadRecipe(
            f"no plugin {name!r} is installed here. {did_you_mean(name, choices)} pip install -e FOLDER installs one."
        )
    return found


def _by_entry_point(name: str, installed: list[Package]) -> list[Package]:
    values = {point.value.partition(":")[0].partition(".")[0] for point in entry_points(group=GROUP, name=name)}
    return [p for p in installed if p.name in values]


def examine(name: str) -> Iterator[Outcome]:
    """Every check of every part of an installed plugin, as it is done.

    Raises:
        BadRecipe: there is no such plugin.
    """
    found = find_plugin(name)
    distribution = found[0].distribution
    entries = {n: e for n, e in plugins.index().items() if e.distribution == distribution}
    outcome = attempt(distribution, "imports", _import, distribution, entries)
    yield outcome
    if not outcome.ok:
        return
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        for package in found:
            own = {n: e for n, e in entries.items() if e.module.partition(".")[0] == package.name}
            yield from _package(package, own, pool)


def _import(distribution: str, entries: dict[str, plugins.Entry]) -> str:
    faults = plugins.faults()
    assert distribution not in faults, f"{distribution} {faults[distribution]}"
    assert entries, "no class in it descends from a role (Modality, Masking, Target, ...), so no recipe can name anything"
    for entry in entries.values():
        entry.load()
    return ", ".join(sorted(entries))


def _package(package: Package, entries: dict[str, plugins.Entry], pool: Pool) -> Iterator[Outcome]:
    for path in recipes(package):
        yield attempt(package.distribution, "recipe", _read, path)
    for folder in package.folders("data_cards"):
        for path in sorted(folder.glob("*.yaml")):
            yield attempt(package.distribution, "data card", _card, path)
    try:
        found = cases(package, entries)
    except BadRecipe:
        return  # said already
    made: dict[str, tuple[Modality, Samples]] = {}
    for case in found:
        checks = ModalityChecks(package, case, pool)
        yield from checks.all()
        if checks.raws:
            made.setdefault(case.name, (checks.modality, checks.samples))
    for entry in entries.values():
        if entry.role not in ("Modality", *UNNAMED):
            yield from check_part(package, entry, made, pool)


def _card(path: Path) -> str:
    load_card(path.stem)
    return path.name


def _read(path: Path) -> str:
    values = load(path)
    if (values.get("model") or {}).get("modalities"):  # others begin from a model that is yet to be named
        resolve(values, str(path))
    return path.name
