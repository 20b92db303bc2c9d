"""Large files of text, read once: their records lie in a folder from then on and are mapped into memory.

A run over them holds no record in memory, and begins at once the second time: what it asks of every record before its first
step, name and length, lies there too. The records are the same, and so is the order in which they come.

Shape suffixes: N records.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from array import array
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch

from mmm.core.modality import Assets, Modality, Record, Tokenizer

from .cards import data_root
from .mixture import Example, sample_of

log = logging.getLogger("mmm")

SMALLEST = 2**25
"""Bytes of the files of a source that are worth a shelf: 32 MiB. Less is read in a few seconds."""
VERSION = 1
"""Of what lies in the folder."""


class Shelf(Sequence[Example]):
    """Records of one modality, as examples.

    Args:
        folder: that ``shelved`` filled. name: of the modality. index_N: which of its records, in this order; all by default.
    """

    def __init__(self, folder: Path, name: str, index_N: np.ndarray | None = None):
        self.folder, self.name = folder, name
        self._text, self._names, self._keys = (_Strings(folder / file) for file in ("text", "names", "keys"))
        self._paths = json.loads((folder / "paths.json").read_text(encoding="utf-8"))
        self._path_N = _mapped(folder / "path.npy")
        self.index_N = np.arange(len(self._text)) if index_N is None else index_N

    def __getstate__(self) -> tuple[Path, str, np.ndarray]:  # a worker maps the files itself
        return self.folder, self.name, self.index_N

    def __setstate__(self, state: tuple[Path, str, np.ndarray]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def __len__(self) -> int:
        return len(self.index_N)

    @overload
    def __getitem__(self, i: int) -> Example: ...
    @overload
    def __getitem__(self, i: slice) -> list[Example]: ...
    def __getitem__(self, i: int | slice) -> Example | list[Example]:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        return {self.name: self.record(i)}

    def record(self, i: int) -> Record:
        """The record alone."""
        at = int(self.index_N[i])
        raw, key = self._text[at].decode(), self._keys[at]
        return Record(self._paths[self._path_N[at]], json.loads(self._names[at]), raw, key or raw.encode())

    def select(self, index: np.ndarray) -> Shelf:
        """Some of them, by number or by a mask."""
        return Shelf(self.folder, self.name, self.index_N[index])

    @cached_property
    def samples(self) -> torch.Tensor:
        """64-bit names of the examples."""
        return torch.from_numpy(_mapped(self.folder / "samples.npy")[self.index_N])

    def lengths(self, modality: Modality) -> np.ndarray:
        """length_N: tokens each record makes. Measured once for a vocabulary, of all records of the folder."""
        tokenizer = modality.tokenizer
        place = self.folder / f"lengths-{_hash(_settings(tokenizer), modality.assets())}.npy"
        if not place.exists():
            whole = Shelf(self.folder, self.name)
            log.info("%s: the lengths of %d records are measured, once for this vocabulary", self.name, len(whole))
            measured = np.fromiter((tokenizer.length(whole.record(i)) for i in range(len(whole))), np.int32, len(whole))
            part = place.with_name(f"{place.name}.{os.getpid()}.part")
            with part.open("wb") as file:
                np.save(file, measured)
            part.replace(place)
        return _mapped(place)[self.index_N]  # type: ignore[no-any-return]


class Shelves(Sequence[Record]):
    """The records of several sources, one after the other.

    Args:
        sources: shelves, and records that are held in memory.
    """

    def __init__(self, sources: Sequence[Shelf | Sequence[Record]]):
        self.sources = sources
        self.ends = np.cumsum([len(s) for s in sources])

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    @overload
    def __getitem__(self, i: int) -> Record: ...
    @overload
    def __getitem__(self, i: slice) -> list[Record]: ...
    def __getitem__(self, i: int | slice) -> Record | list[Record]:
        if isinstance(i, slice):
            return [self[j] for j in range(*i.indices(len(self)))]
        if not -len(self) <= i < len(self):
            raise IndexError(i)
        i %= len(self)
        s = int(np.searchsorted(self.ends, i, side="right"))
        source, i = self.sources[s], i - (int(self.ends[s - 1]) if s else 0)
        return source.record(i) if isinstance(source, Shelf) else source[i]

    def __iter__(self) -> Iterator[Record]:
        for source in self.sources:
            yield from map(source.record, range(len(source))) if isinstance(source, Shelf) else source


def shelved(name: str, paths: Sequence[Path], tokenizer: Tokenizer) -> Shelf | None:
    """The shelf of a modality's files, filled where it is not there yet; None where they are small, or hold more than texts.

    A shelf belongs to files of a path, size and date, and to what decides how the tokenizer cuts them into records.

    Raises:
        BadRecord: a file cannot be read.
    """
    stats = [(str(path.resolve()), path.stat()) for path in paths]
    if not tokenizer.reading or sum(s.st_size for _, s in stats) < SMALLEST:
        return None
    files = [[path, s.st_size, s.st_mtime_ns] for path, s in stats]
    folder = data_root() / "shelves" / _hash([VERSION, name, type(tokenizer).__qualname__, _settings(tokenizer), files])
    if not folder.exists():
        part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
        try:
            if not _fill(part, name, paths, tokenizer):
                return None
            part.rename(folder)
        except OSError as error:
            if not folder.exists():  # another process may have been quicker
                log.warning("%s: its records are kept in memory; they could not be written to %s: %s", name, folder, error)
                return None
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return Shelf(folder, name)


def _fill(folder: Path, name: str, paths: Sequence[Path], tokenizer: Tokenizer) -> bool:
    """Write the records of files to a folder; False where one is more than a text."""
    log.info("%s: %d files are read once, into %s", name, len(paths), folder.parent)
    folder.mkdir(parents=True)
    path_N, sample_N = array("i"), array("q")
    with _Writer(folder / "text") as text, _Writer(folder / "names") as names, _Writer(folder / "keys") as keys:
        for number, path in enumerate(paths):
            for record in tokenizer.records(path):
                if not isinstance(record.raw, str) or record.label is not None:
                    return False
                content = record.raw.encode()
                text.add(content)
                keys.add(b"" if record.key == content else record.key)  # nearly always the text itself
                names.add(json.dumps(record.record).encode())
                path_N.append(number)
                sample_N.append(sample_of({name: record}))
    if not sample_N:
        return False
    np.save(folder / "path.npy", np.frombuffer(path_N, np.int32))
    np.save(folder / "samples.npy", np.frombuffer(sample_N, np.int64))
    (folder / "paths.json").write_text(json.dumps([str(p) for p in paths]), encoding="utf-8")
    return True


class _Writer:
    """Strings, one after the other, and where each ends."""

    def __init__(self, place: Path):
        self.place, self.file, self.ends, self.end = place, place.with_suffix(".bin").open("wb"), array("q"), 0

    def add(self, data: bytes) -> None:
        self.file.write(data)
        self.end += len(data)
        self.ends.append(self.end)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: Any) -> None:
        self.file.close()
        np.save(self.place.with_suffix(".npy"), np.frombuffer(self.ends, np.int64))


class _Strings:
    """What a ``_Writer`` wrote."""

    def __init__(self, place: Path):
        data = place.with_suffix(".bin")
        self.ends = _mapped(place.with_suffix(".npy"))
        self.data = np.memmap(data, np.uint8, "r") if data.stat().st_size else np.zeros(0, np.uint8)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: int) -> bytes:
        start = int(self.ends[i - 1]) if i else 0
        return self.data[start : int(self.ends[i])].tobytes()


def _mapped(place: Path) -> np.ndarray:
    return np.load(place, "r", allow_pickle=False)  # type: ignore[no-any-return]


def _settings(tokenizer: Tokenizer) -> dict[str, Any]:
    """What of a tokenizer decides which records a file holds, and how long they are."""
    return {name: getattr(tokenizer, name) for name in tokenizer.reading}


def _hash(value: Any, assets: Assets | None = None) -> str:
    found = hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16)
    for file, data in sorted((assets or {}).items()):
        found.update(json.dumps([file, len(data)]).encode() + data)
    return found.hexdigest()
