"""Proteins with the pairs of residues that touch."""

from __future__ import annotations

import json

from mmm.core.errors import BadRecord
from mmm.evaluation.dataset import Dataset, Example, Given
from mmm.evaluation.opening import files, text


def read(given: Given) -> Dataset:
    """Lines of .jsonl files: ``{"record": "MKV...", "contacts": [[0, 25], ...], "set": "train"}``; residues count from 0.

    ``set`` may be missing: then proteins are split by their keys.

    Raises:
        BadRecord: naming the file and the line.
    """
    examples = []
    for name, data in files(given.whole, lambda name: name.lower().endswith(".jsonl")):
        for number, line in enumerate(text(name, data).splitlines(), 1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
                sequence, pairs = str(entry["record"]), [(int(i), int(j)) for i, j in entry["contacts"]]
                side = {None: None, "train": False, "test": True}[entry.get("set")]
            except (ValueError, KeyError, TypeError) as error:
                reason = f"line {number}: not {{record, contacts, set}} ({type(error).__name__}: {error})"
                raise BadRecord(name, None, reason) from error
            examples.append(Example((sequence,), sequence, pairs, side))
    if not examples:
        raise BadRecord(given.whole, None, "no protein in it")
    return Dataset(examples)
