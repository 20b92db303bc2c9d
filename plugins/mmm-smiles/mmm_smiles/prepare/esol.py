"""ESOL: how soluble 1,128 molecules are, as MoleculeNet has them."""

from __future__ import annotations

from pathlib import Path

from mmm_smiles.prepare._tables import columns

MEASURED = "measured log solubility in mols per litre"


def prepare(folder: Path, source: Path) -> str:
    """Write ``train.csv``: strings and the logarithm of the measured solubility.

    Args:
        folder: an empty folder to fill. source: delaney-processed.csv, plain or gzip.

    Raises:
        BadRecord: the table has no such columns.
    """
    rows = list(columns(source, "smiles", MEASURED))
    lines = "".join(f"{smiles},{label}\n" for smiles, label in rows)
    (folder / "train.csv").write_text(f"record,label\n{lines}", encoding="ascii", newline="\n")
    return f"{len(rows):,} molecules"
