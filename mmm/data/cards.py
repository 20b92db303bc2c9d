"""Data cards: what a data set is, where it comes from, what may be done with it, and where its files lie here.

A card is ``data_cards/<name>.yaml`` (schema: ``data_cards/README.md``), here or in a plugin's package; its data lie in
``<data root>/<name>/``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmm
from mmm.core.errors import BadRecipe, did_you_mean
from mmm.data.packages import Package, packages
from mmm.data.prepare import SUMS, files_in, prepare, preparers, sha256
from mmm.data.schema import read, share

log = logging.getLogger("mmm")


def data_root() -> Path:
    """Where data lie: ``MMM_DATA``, or ``~/.cache/mmm/data``."""
    root = os.environ.get("MMM_DATA")
    return Path(root).expanduser() if root else Path.home() / ".cache" / "mmm" / "data"


@dataclass(frozen=True)
class Card:
    """One data set.

    Args:
        path: the card's file. home: the plugin it came with, None where that is mmm itself or the user.
        name: lower case, with hyphens; the name of the file and of the data's folder.
        modalities: one, or those that make a pair.
        source: ``url`` and ``citation``.
        size: counts by name (``records``, ``bytes``, ...); a number, or text where it is not known exactly.
        splits: what each split is; ``5%`` is that share of the training records, by their hash.
        files: globs of each split that has files of its own.
        checksum: sha256 by file; empty where there is none, then ``checksum_note`` says why.
        archives: sha256 of what is downloaded, by file name.
        preparer, args: what makes the data here; None where it is done by hand.
        manual: how it is done by hand; None where a preparer does it.
    """

    path: Path
    home: Package | None
    name: str
    title: str
    modalities: tuple[str, ...]
    source: Mapping[str, str]
    licence: str
    size: Mapping[str, int | float | str]
    splits: Mapping[str, str]
    files_of: Mapping[str, tuple[str, ...]]
    checksum: Mapping[str, str]
    checksum_note: str
    archives: Mapping[str, str]
    preprocessing: str
    intended_use: str
    known_limits: str
    preparer: str | None
    args: Mapping[str, Any]
    manual: str | None

    @property
    def modality(self) -> str:
        """Its modality; those of a pair are joined by ``+``."""
        return "+".join(self.modalities)

    @property
    def has_validation(self) -> bool:
        """Whether validation has files of its own."""
        return "validation" in self.files_of

    @property
    def validation_share(self) -> float | None:
        """The share of training records that the card holds out by hash; None where it does not say."""
        return share(self.splits.get("validation", ""))

    def root(self) -> Path:
        """The folder of its data, in that of all data."""
        return data_root() / self.name

    def prepared(self) -> bool:
        """Whether every glob of every split finds something."""
        return all(any(self.root().glob(glob)) for globs in self.files_of.values() for glob in globs)

    def files(self, split: str) -> list[Path]:
        """The files of a split, sorted; those of ``train`` for a split that is a share of it.

        Raises:
            BadRecipe: the card has no such split, or the data are not there; says what to do.
        """
        if split not in self.splits:
            raise BadRecipe(f"card {self.name!r} has no split {split!r}. {did_you_mean(split, self.splits)}")
        found: set[Path] = set()
        for glob in self.files_of.get(split, self.files_of["train"]):
            paths = {p for p in self.root().glob(glob) if p.is_file()}
            if not paths:
                does = "makes it" if self.preparer else "says how to get it"
                raise BadRecipe(f"card {self.name!r}: no {glob} in {self.root()}; `mmm data prepare {self.name}` {does}")
            found |= paths
        return sorted(found)

    def prepare(self, again: bool = False) -> str:
        """Make the data, unless they are there.

        Args:
            again: make them anew and put them in place of the old ones.

        Returns:
            What was made, in a line.

        Raises:
            BadRecipe: a wheel is missing, or the data must be fetched by hand; says how.
        """
        if self.prepared() and not again:
            return f"is there: {self.root()}"
        if self.preparer is None:
            raise BadRecipe(f"card {self.name!r}: the data are fetched by hand, into {self.root()}:\n\n{self.manual}")
        summary = prepare(self.preparer, self.args, self.root(), self.home)
        for problem in self.verify():
            log.warning("card %r: %s", self.name, problem)
        return summary

    def verify(self) -> list[str]:
        """What is wrong with the prepared files, one line a fault: against the card's sha256 and the folder's own."""
        root = self.root()
        if not self.prepared():
            return [f"not prepared: {root}"]
        sums = {f: s for f, s in self.archives.items() if (root / f).is_file()} | dict(self.checksum)
        listed = root / SUMS
        if listed.is_file():
            lines = (line.split("  ", 1) for line in listed.read_text(encoding="utf-8").splitlines())
            made = {file: digest for digest, file in lines}
            problems = [f"{f}: not in {SUMS}" for f in files_in(root) if f not in made and f != SUMS]
            sums = made | sums
        else:
            problems = []
        for file, expected in sums.items():
            if not (root / file).is_file():
                problems.append(f"{file}: missing")
            elif (actual := sha256(root / file)) != expected:
                problems.append(f"{file}: sha256 is {actual}, expected {expected}")
        return problems


def find_cards() -> dict[str, Path]:
    """The file of every card, by name.

    Raises:
        BadRecipe: ``MMM_CARDS`` names no folder, or it has a card whose name is taken.
    """
    found = _found()
    for name, places in found.items():
        own = [path for path, home in places if home is None]
        if len(own) > 1:
            raise _two(name, own)
    return {name: places[0][0] for name, places in sorted(found.items())}


def load_card(name: str) -> Card:
    """The card of this name.

    Raises:
        BadRecipe: there is none, there are two, or it does not follow the schema.
    """
    cards = find_cards()
    if name not in cards:
        raise BadRecipe(f"unknown data card {name!r}. {did_you_mean(name, cards)} A plugin's card needs that package.")
    places = _found()[name]
    if len(places) > 1:  # packages are not held up by what others bring along
        raise _two(name, [path for path, _ in places])
    ((path, home),) = places
    return Card(path=path, home=home, **read(path, preparers(home)))


def _two(name: str, paths: list[Path]) -> BadRecipe:
    return BadRecipe(f"two cards are called {name!r}: {paths[0]} and {paths[1]}; rename one")


def _found() -> dict[str, list[tuple[Path, Package | None]]]:
    """(file, plugin it came with) of the cards of each name."""
    found: dict[str, list[tuple[Path, Package | None]]] = {}
    for folder, home in _folders():
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, []).append((path, home))
    return found


def _folders() -> list[tuple[Path, Package | None]]:
    """Where cards are looked for: here, in the user's own folder, in the packages of plugins."""
    here = Path(mmm.__file__).parent
    folders: list[tuple[Path, Package | None]] = [
        (f, None) for f in (here.parent / "data_cards", here / "data_cards") if f.is_dir()
    ][:1]
    if own := os.environ.get("MMM_CARDS"):
        if not Path(own).expanduser().is_dir():
            raise BadRecipe(f"MMM_CARDS={own}: no such folder")
        folders.append((Path(own).expanduser(), None))
    return folders + [(folder, package) for package in packages() for folder in package.folders("data_cards")]
