"""Sound files whose names tell their labels."""

from __future__ import annotations

import io
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mmm.core.errors import BadRecipe, BadRecord
from mmm.evaluation.dataset import Dataset, Example, Given
from mmm.evaluation.opening import files, is_archive
from mmm.evaluation.readers import table

MAX_SAMPLES = 2**26
"""Of one file, decoded from an archive."""


def read(given: Given, pattern: str, test: dict[str, str] | None = None) -> Dataset:
    """Sound files of a folder or an archive as examples; a table of paths and labels is read, too.

    Args:
        given: where.
        pattern: a regular expression that the end of a file's name matches, folders included; its group ``label`` is the label.
        test: for groups of the pattern, what they are in the test set: regular expressions, all of which must match. Without
            any, records are split by their keys.

    Raises:
        BadRecord: no file has such a name, or one is no sound.
        BadRecipe: the pattern cannot be used.
    """
    if any(str(p).lower().removesuffix(".gz").endswith(table.ENDINGS) for p in given.paths.values()):
        return table.read(given)
    expression = _expression(pattern, test or {})
    sounds: list[tuple[PurePosixPath, Any, re.Match[str], bool | None]] = []
    others = 0
    for name, raw in _sounds(given):
        found = expression.search(name)
        if found is None:
            others += 1
            continue
        held = all(re.fullmatch(rule, found[group]) for group, rule in test.items()) if test else None
        sounds.append((PurePosixPath(name), raw, found, held))
    if not sounds:
        raise BadRecord(given.whole, None, f"no sound file in it has a name like {pattern!r}")
    # Whole names, less the folders that all share: the same in a folder and in the archive of it.
    shared = posixpath.commonpath([name.parent for name, *_ in sounds])
    examples = [Example((raw,), name.relative_to(shared).as_posix(), found["label"], held) for name, raw, found, held in sounds]
    return Dataset(examples, [f"{others} sound files have other names: left out"] if others else [])


def _expression(pattern: str, test: dict[str, str]) -> re.Pattern[str]:
    try:
        expression = re.compile(f"(?:^|(?<=/))(?:{pattern})$")
        for rule in test.values():
            re.compile(rule)
    except re.error as error:
        raise BadRecipe(f"the pattern {pattern!r}, or the test rule {test}, is no regular expression: {error}") from error
    for group in ("label", *test):
        if group not in expression.groupindex:
            raise BadRecipe(f"the pattern {pattern!r} has no group {group!r}: write (?P<{group}>...)")
    return expression


def _sounds(given: Given) -> Iterator[tuple[str, Any]]:
    """(name, raw value): a path in a folder, the decoded sound in an archive."""
    path, suffixes = given.whole, given.tokenizer.suffixes
    at_hand = sorted(p for p in path.rglob("*") if p.name.lower().endswith(suffixes)) if path.is_dir() else []
    if at_hand:
        for file in at_hand:
            yield file.relative_to(path).as_posix(), str(file)
    elif path.is_dir() or is_archive(path):
        for name, data in files(path, lambda name: name.lower().endswith(suffixes)):
            yield name, _decoded(path, name, data)
    else:
        raise BadRecord(path, None, "a folder or an archive of sound files is needed, or a table of their paths and labels")


def _decoded(path: Path, name: str, data: bytes) -> Any:
    import soundfile
    import torch

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.frames * file.channels > MAX_SAMPLES:
                raise BadRecord(path, name, f"{file.frames} samples are more than {MAX_SAMPLES}")
            samples = file.read(dtype="float32", always_2d=True)
            return torch.from_numpy(samples).mean(1), file.samplerate
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise BadRecord(path, name, f"no sound that can be read: {error}") from error
