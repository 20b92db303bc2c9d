"""What a plugin brings, as its recipes construct it, and sample records of its modalities.

Shape suffixes: none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmm.core.modality import Modality, Record, Tokenizer
from mmm.data.cards import load_card
from mmm.data.packages import Package
from mmm.data.tables import SUFFIXES, is_table, parts, read_table
from mmm.plugins import Entry
from mmm.recipe import Recipe, instantiate, resolve
from mmm.yaml import load

if TYPE_CHECKING:
    from mmm.core.training import Training

MOST_RECORDS, MOST_RAWS = 64, 6
LARGEST = 8 * 2**20
"""Bytes of the largest file that samples are taken from."""

ENCODER = {"class_path": "Transformer", "init_args": {"width": 32, "depth": 1, "heads": 4, "rotary": 2}}
BYSTANDER = {"class_path": "Image", "init_args": {"size": 8, "patch": 4, "channels": 1}}


@dataclass(frozen=True)
class Case:
    """A modality as one recipe, or its own defaults, construct it.

    Args:
        part: how it is called. name: in the recipe. spec: ``class_path`` and ``init_args``.
        targets: of the recipe; None where it names none. cards: of its data there.
    """

    part: str
    name: str
    spec: Mapping[str, Any]
    targets: Any = None
    cards: tuple[str, ...] = ()

    def make(self) -> Modality:
        """A new one, neither fitted nor built. Raises ValueError where a value is refused."""
        return model_of({self.name: self.spec}).modalities[self.name]


@dataclass(frozen=True)
class Samples:
    """Records to check with.

    Args:
        files: they are read from. records: at most ``MOST_RECORDS``. source: where they come from, for people.
    """

    files: tuple[Path, ...]
    records: tuple[Record, ...]
    source: str

    def raws(self, tokenizer: Tokenizer) -> list[Any]:
        """A few raw values, of lengths as different as there are."""
        by_length = sorted(self.records, key=tokenizer.length)
        step = max(1, (len(by_length) - 1) / (MOST_RAWS - 1))
        places = sorted({round(i * step) for i in range(MOST_RAWS)} & set(range(len(by_length))))
        return [by_length[i].raw for i in places]


def recipes(package: Package) -> Iterator[Path]:
    """The recipes that lie in its folders ``recipes``."""
    for folder in package.folders("recipes"):
        yield from sorted(folder.rglob("*.yaml"))


def cases(package: Package, entries: Mapping[str, Entry]) -> list[Case]:
    """Its modalities as its recipes construct them, each way once; by their defaults where no recipe names them.

    Args:
        entries: its classes, by name.

    Raises:
        BadRecipe: a recipe cannot be read.
    """
    found: list[Case] = []
    for path in recipes(package):
        values = load(path)
        model = values.get("model") or {}
        for name, given in (model.get("modalities") or {}).items():
            spec = _spec(given)
            if spec["class_path"] in entries and all(c.spec != spec for c in found):
                part = f"{spec['class_path']}, as {path.name} constructs it"
                targets = next(_under(model.get("objective"), "targets", name), None)
                found.append(Case(part, name, spec, targets, tuple((values.get("data") or {}).get("cards") or ())))
    named = {case.spec["class_path"] for case in found}
    for entry in entries.values():
        if entry.role == "Modality" and entry.name not in named:
            found.append(Case(f"{entry.name}, by its defaults", entry.name.lower(), _spec(entry.name)))
    return found


def specs(package: Package, name: str) -> list[dict[str, Any]]:
    """Every way in which the package's recipes construct a class that is no modality; by its defaults where none does."""
    found: list[dict[str, Any]] = []
    for path in recipes(package):
        for spec in _naming(load(path).get("model"), name):
            if spec not in found:
                found.append(spec)
    return found or [_spec(name)]


def samples(package: Package, case: Case, tokenizer: Tokenizer) -> Samples:
    """Records of the package's folder ``examples``, or of a card that the recipe names.

    The files in ``examples/NAME`` are those of the modality that recipes call NAME; without such a folder, those in
    ``examples`` that have an ending its tokenizer reads. A table (.csv, .tsv) with a column ``record`` is read as one.

    Raises:
        ValueError: there are none, or they cannot be read; says what is missing.
    """
    endings = (*tokenizer.suffixes, *SUFFIXES)
    for folder in package.folders("examples"):
        own = folder / case.name
        files = [p for p in sorted((own if own.is_dir() else folder).iterdir()) if p.name.lower().endswith(endings)]
        if files:
            return _read(files, tokenizer, "examples")
    for name in case.cards:
        card = load_card(name)
        if card.modality == case.name and (card.prepared() or card.preparer):
            card.prepare()
            files = sorted(card.files("train"), key=lambda p: p.stat().st_size)
            return _read(files[:1], tokenizer, f"the card {name}")
    wanted = ", ".join(tokenizer.suffixes) or "of the endings that Tokenizer.suffixes will name"
    raise ValueError(f"no sample records: {package.name}/examples/ has no file that it reads ({wanted})")


def _read(files: list[Path], tokenizer: Tokenizer, source: str) -> Samples:
    large = [p for p in files if p.stat().st_size > LARGEST]
    if large:
        raise ValueError(f"{large[0]}: over {LARGEST:,} bytes; samples are a few small files")
    found = (read_table(path, tokenizer) if is_table(path, tokenizer) else tokenizer.records(path) for path in files)
    records = tuple(islice((part for of_one in found for record in of_one for part in parts(record)), MOST_RECORDS))
    if not records:
        raise ValueError(f"no record in {files[0]}")
    return Samples(tuple(files), records, f"{len(records)} records of {source}")


def model_of(modalities: Mapping[str, Any], **parts: Any) -> Training:
    """What a recipe of these modalities and parts constructs; nothing is fitted or built.

    Args:
        modalities: specs, by name. parts: specs of ``encoder``, ``decoder``, ``objective``.

    Raises:
        BadRecipe: naming the value that is refused.
    """
    model = {"modalities": dict(modalities), "encoder": ENCODER, "objective": "NoObjective", **parts}
    return instantiate(Recipe("the kit", resolve({"model": model}, "the kit")))


def _spec(given: Any) -> dict[str, Any]:
    return {"class_path": given, "init_args": {}} if isinstance(given, str) else {"init_args": {}, **given}


def _under(value: Any, key: str, name: str) -> Iterator[Any]:
    """What stands under ``key.name``, however deep."""
    if isinstance(value, dict):
        inner = value.get(key)
        if isinstance(inner, dict) and name in inner:
            yield inner[name]
        for other in value.values():
            yield from _under(other, key, name)


def _naming(value: Any, name: str) -> Iterator[dict[str, Any]]:
    """Every place that names the class."""
    if value == name or (isinstance(value, dict) and value.get("class_path") == name):
        yield _spec(value)
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _naming(inner, name)
