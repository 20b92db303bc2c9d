"""Pairs of a good and a bad sentence, as BLiMP writes them."""

from __future__ import annotations

import json
from pathlib import PurePosixPath

from mmm.core.errors import BadRecord
from mmm.evaluation.dataset import Dataset, Example, Given
from mmm.evaluation.opening import files, text


def read(given: Given, good: str = "sentence_good", bad: str = "sentence_bad", paradigm: str = "UID") -> Dataset:
    """Lines of .jsonl files as pairs, the good sentence first; the label is the paradigm, or the file's name without one.

    Args:
        given: a file, a folder or an archive. good, bad, paradigm: keys of a line.

    Raises:
        BadRecord: naming the file and the line: no JSON, or no such sentences.
    """
    examples = []
    for name, data in files(given.whole, lambda name: name.lower().endswith(".jsonl")):
        for number, line in enumerate(text(name, data).splitlines(), 1):
            if not line.strip():
                continue
            try:
                pair = json.loads(line)
                sentences = (str(pair[good]), str(pair[bad]))
            except (ValueError, KeyError, TypeError) as error:
                reason = f"line {number}: no JSON with the keys {good!r} and {bad!r} ({type(error).__name__}: {error})"
                raise BadRecord(name, None, reason) from error
            label = str(pair.get(paradigm) or PurePosixPath(name).stem)
            examples.append(Example(sentences, f"{label}/{number}", label, True))
    if not examples:
        raise BadRecord(given.whole, None, "no pair in it")
    return Dataset(examples)
