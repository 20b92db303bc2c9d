"""The preparer of the card ``example-name-lines``: brightness along the lines of two photographs that scikit-learn carries."""

from __future__ import annotations

from pathlib import Path

from mmm.core.errors import BadRecipe

PHOTOGRAPHS = ("china.jpg", "flower.jpg")
GAP = 20
"""Lines left out between training and validation, so that neighbours do not stand on both sides."""


def prepare(folder: Path) -> str:
    """Fill an empty folder, offline, with the same bytes every time; the card names this function's module.

    Writes ``train.series`` and ``validation.series``: a line of a photograph a record, its grey levels (0 to 255) from left to
    right. The upper four fifths of each photograph are for training.

    Args:
        folder: to fill. Further arguments would stand under ``prepare.args`` in the card.

    Returns:
        A line about what was made.

    Raises:
        BadRecipe: the photographs are not there; says what to install.
    """
    import numpy as np
    import PIL.Image

    split: dict[str, list[str]] = {"train": [], "validation": []}
    for photograph in PHOTOGRAPHS:
        with PIL.Image.open(_source(photograph)) as image:
            grey_HW = np.asarray(image.convert("L"))
        lines = [" ".join(map(str, line)) for line in grey_HW.tolist()]
        border = len(lines) * 4 // 5
        split["train"] += lines[: border - GAP]
        split["validation"] += lines[border:]
    for name, lines in split.items():
        (folder / f"{name}.series").write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    return f"{len(split['train']):,} + {len(split['validation']):,} lines"


def _source(photograph: str) -> Path:
    import importlib.util

    spec = importlib.util.find_spec("sklearn")
    places = [
        Path(place) / "datasets" / "images" / photograph for place in (spec.submodule_search_locations or () if spec else ())
    ]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise BadRecipe(f"{photograph} comes with scikit-learn, which is not installed: pip install scikit-learn")
    return found
