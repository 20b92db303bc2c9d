"""Labelled images in .npz files."""

from __future__ import annotations

from pathlib import Path

from mmm.core.errors import BadRecord
from mmm.evaluation.dataset import Dataset, Example, Given
from mmm.evaluation.readers import table


def read(given: Given) -> Dataset:
    """Rows of .npz files as examples: ``images`` (or ``jpeg`` and ``offsets``) with ``labels``; a table of paths is read, too.

    A folder holds ``train.npz`` and ``test.npz``, or one .npz file that is split by the images' keys.

    Raises:
        BadRecord: no such file, no labels, no images.
    """
    if any(str(p).lower().removesuffix(".gz").endswith(table.ENDINGS) for p in given.paths.values()):
        return table.read(given)
    examples = []
    for side, file in _archives(given):
        if not file.is_file():
            raise BadRecord(file, None, "no such file; images are given as .npz files with images and labels")
        for record in given.tokenizer.records(file):
            if record.label is None:
                raise BadRecord(file, None, "no labels: an array 'labels' with one for each image is needed")
            examples.append(Example((record.raw,), record.key.hex(), record.label, side))
    return Dataset(examples)


def _archives(given: Given) -> list[tuple[bool | None, Path]]:
    """(whether it is the test set, file)."""
    if "" not in given.paths:
        return [(side == "test", path) for side, path in given.paths.items()]
    path = given.whole
    if not path.is_dir():
        return [(None, path)]
    found = sorted(path.glob("*.npz"))
    named = {p.stem: p for p in found}
    if {"train", "test"} <= named.keys():
        return [(False, named["train"]), (True, named["test"])]
    if len(found) != 1:
        raise BadRecord(path, None, f"holds {len(found)} .npz files; it needs train.npz and test.npz, or one alone")
    return [(None, found[0])]
