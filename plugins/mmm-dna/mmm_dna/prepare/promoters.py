"""DNABERT's sample of promoters: sequences that are written as overlapping 6-mers, with labels."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path

from mmm.core.errors import BadRecord


def prepare(folder: Path, source: Path) -> str:
    """Write ``train.csv``: the sequences and labels of DNABERT's ``examples/sample_data/ft/6/dev.tsv``.

    Args:
        folder: an empty folder to fill. source: the file, plain or gzip.

    Raises:
        BadRecord: a line that is no list of overlapping k-mers and a label.
    """
    opened = gzip.open if source.suffix == ".gz" else open
    with opened(source, "rt", encoding="ascii") as file:
        lines = file.read().splitlines()
    if not lines or lines[0].split("\t") != ["sequence", "label"]:
        raise BadRecord(source, None, "its first line is not 'sequence', a tab, 'label'")
    rows = ["record,label"]
    for number, line in enumerate(lines[1:], 2):
        words, _, label = line.partition("\t")
        kmers = words.split()
        if label not in ("0", "1") or not kmers or any(a[1:] != b[:-1] for a, b in itertools.pairwise(kmers)):
            raise BadRecord(source, number, "no overlapping k-mers, a tab, and 0 or 1")
        rows.append("".join(kmer[0] for kmer in kmers[:-1]) + kmers[-1] + "," + label)
    (folder / "train.csv").write_text("\n".join(rows) + "\n", encoding="ascii", newline="\n")
    return f"{len(rows) - 1:,} sequences"
