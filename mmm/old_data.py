"""Where the modalities of a trained model were learned: the data of its run, and of the runs that one began from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .core.errors import BadRecipe, did_you_mean
from .data.cards import load_card
from .data.module import Data
from .sources import Source, open_source


def old_data(source: Source, own: Mapping[str, str], mixed: Mapping[str, Any]) -> list[Data]:
    """The data that the modalities of a model were learned from, of each run it comes from; a modality stands in one of them,
    that of the latest run that had it. Nothing is read yet.

    Args:
        own: files that stand in their place, by modality. mixed: the data section of the run that follows, for those that are
            found nowhere else.

    Raises:
        BadRecipe: ``own`` names a modality that the model has not.
    """
    missing, found = list(source.values["model"]["modalities"]), []
    for name in own:
        if name not in missing:
            raise BadRecipe(f"--records {name}=...: {source.name} has no modality {name!r}. {did_you_mean(name, missing)}")
    named = {**source.values["data"], "cards": {}, "files": dict(own), "test": {}}
    for section in (named, *_sections(source.values), mixed):
        files = {n: f for n, f in (section["files"] or {}).items() if n in missing}
        cards = {c: w for c, w in (section["cards"] or {}).items() if _known(c) in missing and _known(c) not in files}
        test = {n: f for n, f in (section["test"] or {}).items() if n in files}
        if files or cards:
            found.append(Data(**{**section, "cards": cards, "files": files, "test": test, "workers": 0}))
            missing = [n for n in missing if n not in {*files, *map(_known, cards)}]
    return found


def _sections(values: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The data of a run, of the run it began from, and so on as far as they are there."""
    while True:
        yield values["data"]
        begun = values.get("init_from")
        name = begun.get("source") if isinstance(begun, dict) else begun
        if not isinstance(name, str) or not Path(name).exists():
            return
        try:
            values = open_source(name).values
        except ValueError:
            return


def modality_of(card: str) -> str:
    """Of a card's records. Raises BadRecipe where there is no such card."""
    return load_card(card).modality


def _known(card: str) -> str | None:
    """Its modality; None where the card is not here."""
    try:
        return modality_of(card)
    except ValueError:
        return None
