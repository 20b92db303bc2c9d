"""Tox21: what 7,831 molecules do in twelve assays, with gaps, as MoleculeNet has them."""

from __future__ import annotations

from pathlib import Path

from mmm_smiles.prepare._tables import columns, readable

ASSAYS = (
    *("NR-AR", "NR-AR-LBD", "NR-AhR", "NR-Aromatase", "NR-ER", "NR-ER-LBD", "NR-PPAR-gamma"),
    *("SR-ARE", "SR-ATAD5", "SR-HSE", "SR-MMP", "SR-p53"),
)


def prepare(folder: Path, source: Path) -> str:
    """Write ``molecules.smi``, every different string with its number, and a table an assay: ``SR-p53.csv``.

    A table holds the molecules that were measured in its assay, labelled ``active`` and ``inactive``: a gap is no negative. Of
    rows that repeat a string, the first one is read.

    Args:
        folder: an empty folder to fill. source: tox21.csv, plain or gzip.

    Raises:
        BadRecord: the table has no columns ``smiles``, ``mol_id`` and those of the assays.
    """
    rows = list(columns(source, "smiles", "mol_id", *ASSAYS))
    found = {row[0]: row for row in reversed(rows) if readable(row[0])}
    kept = [found[smiles] for smiles in dict.fromkeys(row[0] for row in rows) if smiles in found]
    lines = "".join(f"{smiles} {name}\n" for smiles, name, *_ in kept)
    (folder / "molecules.smi").write_text(lines, encoding="ascii", newline="\n")
    measured = 0
    for column, assay in enumerate(ASSAYS, 2):
        lines = "".join(f"{row[0]},{('inactive', 'active')[int(float(row[column]))]}\n" for row in kept if row[column])
        measured += lines.count("\n")
        (folder / f"{assay}.csv").write_text(f"record,label\n{lines}", encoding="ascii", newline="\n")
    strange = sum(not readable(row[0]) for row in rows)
    return (
        f"{len(kept):,} strings of {len(rows):,} rows; {strange} no SMILES, {len(rows) - strange - len(kept)} repeated; "
        f"{measured:,} measurements in {len(ASSAYS)} assays"
    )
