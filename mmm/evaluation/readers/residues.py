"""Proteins with a state for every residue, as FLIP writes them, or in a table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath

from mmm.core.errors import BadRecord
from mmm.evaluation.dataset import UNKNOWN, Dataset, Example, Given
from mmm.evaluation.opening import files, text
from mmm.evaluation.readers import table

SEQUENCES, MASK = "sequences.fasta", "mask.fasta"


def read(given: Given, labels: str = "sampled.fasta") -> Dataset:
    """Sequences with strings of states as long as they are; ``-`` where a residue's state is not known.

    A folder or an archive holds ``sequences.fasta``, a file of labels whose headers say ``SET=train`` or ``SET=test`` (and
    ``VALIDATION=True``: such proteins are left out), and, if there is one, ``mask.fasta`` with 0 for residues that are not
    asked. A table has the columns ``record`` and ``label``.

    Args:
        given: where. labels: the file of labels.

    Raises:
        BadRecord: a file is missing, a protein has no sequence, or states of another number.
    """
    if any(str(p).lower().removesuffix(".gz").endswith(table.ENDINGS) for p in given.paths.values()):
        return table.read(given)
    wanted = (SEQUENCES, labels, MASK)
    found = {PurePosixPath(n).name: text(n, d) for n, d in files(given.whole, lambda n: PurePosixPath(n).name in wanted)}
    for name in wanted[:2]:
        if name not in found:
            raise BadRecord(given.whole, None, f"no {name} in it, only {', '.join(sorted(found))}")
    sequences = {name: body for name, _, body in _entries(found[SEQUENCES])}
    masks = {name: body for name, _, body in _entries(found.get(MASK, ""))}
    examples, validation = [], 0
    for name, fields, states in _entries(found[labels]):
        if fields.get("VALIDATION") == "True":
            validation += 1
            continue
        sequence, mask = sequences.get(name, ""), masks.get(name, "1" * len(states))
        if not len(sequence) == len(states) == len(mask):
            raise BadRecord(
                given.whole, name, f"{len(sequence)} residues, {len(states)} states, {len(mask)} places of the mask"
            )
        known = "".join(s if m == "1" else UNKNOWN for s, m in zip(states, mask, strict=True))
        examples.append(Example((sequence,), name, known, {"train": False, "test": True}.get(fields.get("SET", ""))))
    return Dataset(examples, [f"{validation} validation proteins are left out"] if validation else [])


def _entries(content: str) -> Iterator[tuple[str, dict[str, str], str]]:
    """(id, KEY=VALUE fields of the header, body) of FASTA entries."""
    for entry in content.split(">")[1:]:
        header, _, body = entry.partition("\n")
        name, *fields = header.split()
        yield name, dict(f.split("=", 1) for f in fields if "=" in f), "".join(body.split())
