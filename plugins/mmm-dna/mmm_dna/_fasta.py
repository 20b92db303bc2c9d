"""FASTA files, plain or gzip."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

from mmm.core.errors import BadRecord

MAX_BASES = 2**28
"""Of one sequence, or of one line: 268 million; the longest human chromosome has 249 million."""


def entries(path: Path) -> Iterator[tuple[int, str, str]]:
    """(line of the header, first word of it, sequence) of the entries of a FASTA file, in order; sequences as they stand there.

    Raises:
        BadRecord: no FASTA, not ASCII, a header without a name, more than ``MAX_BASES``, a broken gzip file.
    """
    header, name, parts, bases = 0, "", list[str](), 0
    for number, line in _lines(path):
        if line.startswith(">"):
            if header:
                yield header, name, "".join(parts)
            words = line[1:].split()
            if not words:
                raise BadRecord(path, None, f"line {number}: a header without a name")
            header, name, parts, bases = number, words[0], [], 0
        elif line:
            if not header:
                found = "HTML" if line.startswith("<") else repr(line[:20])
                raise BadRecord(
                    path, None, f"line {number}: {found} where the header of a FASTA entry ('>' and a name) should stand"
                )
            bases += len(line)
            if bases > MAX_BASES:
                raise BadRecord(path, name, f"line {number}: more than {MAX_BASES} bases")
            parts.append(line)
    if not header:
        raise BadRecord(path, None, "no sequence in it")
    yield header, name, "".join(parts)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines (from 1) without the white space around them. Raises BadRecord: see ``entries``."""
    with gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb") as file:
        number = 0
        while True:
            number += 1
            try:
                line = file.readline(MAX_BASES + 1)
            except (EOFError, OSError, zlib.error) as error:
                raise BadRecord(path, None, f"line {number}: cannot be read: {error}") from error
            if not line:
                return
            if len(line) > MAX_BASES:
                raise BadRecord(path, None, f"line {number}: longer than {MAX_BASES} bytes")
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.startswith(b">") and not line.isascii():
                raise BadRecord(path, None, f"line {number}: a sequence is written in ASCII letters; this is no FASTA")
            if b"\0" in line:
                raise BadRecord(path, None, f"line {number}: a NUL byte; this is no FASTA")
            yield number, line.decode("utf-8", "replace").strip()  # only a header can hold other letters
