"""Proteins: the sequence benchmarks that the aaanalysis wheel carries, every different sequence once."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from mmm.core.errors import BadRecipe, did_you_mean
from mmm.data.prepare import wheel

LETTERS = frozenset("ACDEFGHIKLMNPQRSTVWYXBZUO")
"""The 20 amino acids, X (any), B (D or N), Z (E or Q), U (selenocysteine), O (pyrrolysine): the letters ESM models know."""

SETS = ("SEQ_SOLUBLE", "SEQ_CAPSID", "SEQ_TAIL", "SEQ_DISULFIDE", "SEQ_LOCATION")


def prepare(folder: Path, sets: Sequence[str] = SETS, shortest: int = 30) -> str:
    """Write ``proteins.fasta``: a record a different sequence, its labels in every set it is in behind its name.

    ``>SOLUBLE_1 SEQ_SOLUBLE=1 SEQ_TAIL=0``: the name is that of the entry where the sequence came first.

    Args:
        folder: an empty folder to fill.
        sets: files of the wheel to read, in this order.
        shortest: residues of the shortest sequence that is kept.
    """
    benchmarks = wheel("aaanalysis", "aaanalysis==1.1.0") / "_data" / "benchmarks"
    known = [p.stem for p in benchmarks.glob("SEQ_*.tsv")]
    entries: dict[str, str] = {}
    labels: dict[str, dict[str, str]] = {}
    rows = strange = short = 0
    for name in sets:
        if name not in known:
            raise BadRecipe(f"aaanalysis has no set {name!r}. {did_you_mean(name, known)}")
        with (benchmarks / f"{name}.tsv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                sequence = row["sequence"]
                rows += 1
                if not LETTERS.issuperset(sequence):
                    strange += 1
                elif len(sequence) < shortest:
                    short += 1
                else:
                    entries.setdefault(sequence, row["entry"])
                    labels.setdefault(sequence, {}).setdefault(name, row["label"])
    with (folder / "proteins.fasta").open("w", encoding="ascii", newline="\n") as out:
        for sequence, entry in entries.items():
            print(f">{entry}", *(f"{name}={label}" for name, label in labels[sequence].items()), file=out)
            print(*(sequence[i : i + 60] for i in range(0, len(sequence), 60)), sep="\n", file=out)
    repeats = rows - strange - short - len(entries)
    return (
        f"{len(entries):,} proteins, {sum(map(len, entries)):,} residues, of {rows:,} rows; left out: "
        f"{repeats:,} repeats, {short:,} under {shortest} residues, {strange:,} with other letters"
    )
