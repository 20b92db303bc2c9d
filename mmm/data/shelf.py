"""Large files of text, read once: their records lie in a folder from then on and are mapped into memory.

A run over them holds no record in memory but the pieces it keeps, and begins at once the second time: what it asks of every
record before its first step, name and length, lies there too, and so do the ids of a vocabulary. The records are the same,
and so is the order in which they come.

Shape suffixes: N records.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import inspect
import json
import logging
import os
import shutil
import tempfile
from array import array
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmm.core.errors import BadRecord
from mmm.core.modality import Assets, Encoded, Modality, Record, Tokenizer

from .cards import data_root
from .known import codes_of
from .mixture import Example, sample_of
from .numbered import Numbered

log = logging.getLogger("mmm")

SMALLEST = 2**25
"""Bytes of the files of a source that are worth a shelf: 32 MiB. Less is read in a few seconds."""
VERSION = 1
"""Of what lies in the folder."""


class Shelf(Numbered[Example]):
    """Records of one modality, as examples.

    Args:
        folder: that ``shelved`` filled. name: of the modality. paths: of the files, as whoever reads them now calls them.
        codes: the file there that holds what a tokenizer made of each record; see ``encoded``.

    Raises:
        ValueError: what lies there is not whole.
    """

    def __init__(self, folder: Path, name: str, paths: Sequence[str], codes: str | None = None):
        self.folder, self.name, self.paths, self.codes = folder, name, paths, codes
        self._codes = None if codes is None else _Strings(folder / codes)
        self._text, self._names, self._keys = (_Strings(folder / file) for file in ("text", "names", "keys"))
        self._path_N, self._sample_N = _mapped(folder / "path.npy"), _mapped(folder / "samples.npy")
        parts = (self._text, self._names, self._keys, self._path_N, self._sample_N, self._codes)
        if len({len(part) for part in parts if part is not None}) > 1:
            raise ValueError(f"{folder} is not whole")
        self.index_N = np.arange(len(self._text))  # which of the records there are these, in this order

    def __getstate__(self) -> tuple[Path, str, Sequence[str], str | None, np.ndarray]:  # a worker maps the files itself
        return self.folder, self.name, self.paths, self.codes, self.index_N

    def __setstate__(self, state: tuple[Path, str, Sequence[str], str | None, np.ndarray]) -> None:
        self.__init__(*state[:4])  # type: ignore[misc]
        self.index_N = state[4]

    def __len__(self) -> int:
        return len(self.index_N)

    def at(self, i: int) -> Example:
        return {self.name: self.record(i)}

    def record(self, i: int) -> Record:
        """The record alone."""
        return self._record(int(self.index_N[i]))

    def _record(self, n: int) -> Record:
        raw, key = self._text[n].decode(), self._keys[n]
        if self._codes is not None:
            raw = Encoded(raw, torch.from_numpy(np.frombuffer(self._codes[n], np.int32).copy()))
        return Record(self.paths[self._path_N[n]], json.loads(self._names[n]), raw, key or raw.encode())

    def select(self, index: np.ndarray) -> Shelf:
        """Some of them, by number or by a mask."""
        chosen = copy.copy(self)
        chosen.__dict__ = {**self.__dict__, "index_N": self.index_N[index]}
        chosen.__dict__.pop("samples", None)
        return chosen

    @cached_property
    def samples(self) -> torch.Tensor:
        """64-bit names of the examples."""
        return torch.from_numpy(self._sample_N[self.index_N])

    def encoded(self, modality: Modality) -> Shelf:
        """The same records as ``Encoded``, once for a vocabulary; itself where the tokenizer has no ``encoding``.

        Raises:
            BadRecord: one cannot be encoded.
        """
        tokenizer = modality.tokenizer
        if tokenizer.encoding is None:
            return self
        codes = f"codes-{_hash(_settings(tokenizer, tokenizer.encoding), modality.assets())}"
        try:
            if not (self.folder / f"{codes}.npy").exists():
                self._encode(tokenizer, codes)
            try:
                return self._with(codes)
            except (EOFError, ValueError, FileNotFoundError):  # of a machine that went down while it was written, say
                log.warning("%s: %s in %s is broken; it is made again", self.name, codes, self.folder)
                self._encode(tokenizer, codes)
                return self._with(codes)
        except OSError as error:
            log.warning("%s: what the vocabulary makes of its records could not be kept: %s", self.name, error)
            return self

    def _with(self, codes: str | None) -> Shelf:
        chosen = Shelf(self.folder, self.name, self.paths, codes)
        chosen.index_N = self.index_N
        return chosen

    def plain(self) -> Shelf:
        """The same records as strings alone: what a vocabulary made of them is nothing to another one."""
        return self if self.codes is None else self._with(None)

    def _encode(self, tokenizer: Tokenizer, codes: str) -> None:
        log.info("%s: %d records are encoded, once for this vocabulary", self.name, len(self._text))
        with tempfile.TemporaryDirectory(dir=self.folder, suffix=".part") as part:
            with _Writer(Path(part) / codes) as writer:
                for n in range(len(self._text)):
                    writer.add(codes_of(self._record(n), tokenizer).tobytes())
            for kind in (".bin", ".npy"):  # the ends last: where they lie, all lies
                (Path(part) / codes).with_suffix(kind).replace((self.folder / codes).with_suffix(kind))

    def lengths(self, modality: Modality) -> np.ndarray:
        """length_N: tokens each record makes. Measured once for a vocabulary, of all records of the folder.

        Raises:
            BadRecord: one cannot be tokenised.
        """
        tokenizer = modality.tokenizer
        place = self.folder / f"lengths-{_hash(_settings(tokenizer, tokenizer.measuring), modality.assets())}.npy"
        if not place.exists():
            log.info("%s: the lengths of %d records are measured, once for this vocabulary", self.name, len(self._text))
            measured = np.fromiter((self._length(tokenizer, n) for n in range(len(self._text))), np.int32)
            try:
                with tempfile.TemporaryDirectory(dir=self.folder, suffix=".part") as part:
                    _save(Path(part) / place.name, measured)
                    (Path(part) / place.name).replace(place)
            except OSError as error:
                log.warning("%s: the lengths could not be kept and will be measured again: %s", self.name, error)
                return measured[self.index_N]  # type: ignore[no-any-return]
        return _mapped(place)[self.index_N]  # type: ignore[no-any-return]

    def _length(self, tokenizer: Tokenizer, n: int) -> int:
        record = self._record(n)
        try:
            return tokenizer.length(record)
        except ValueError as error:
            raise BadRecord(record.path, record.record, str(error)) from error


class Shelves(Numbered[Record]):
    """The records of several sources, one after the other.

    Args:
        sources: shelves, and records that are held in memory.
    """

    def __init__(self, sources: Sequence[Shelf | Sequence[Record]]):
        self.sources = sources
        self.ends = np.cumsum([len(s) for s in sources])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def at(self, i: int) -> Record:
        s = int(np.searchsorted(self.ends, i, side="right"))
        source, i = self.sources[s], i - (int(self.ends[s - 1]) if s else 0)
        return source.record(i) if isinstance(source, Shelf) else source[i]

    def __iter__(self) -> Iterator[Record]:
        for source in self.sources:
            yield from map(source.record, range(len(source))) if isinstance(source, Shelf) else source


def shelved(name: str, paths: Sequence[Path], tokenizer: Tokenizer) -> Shelf | None:
    """The shelf of a modality's files, filled where it is not there yet; None where they are small, or hold more than texts.

    A shelf belongs to files of a path, size and date, to the tokenizer's own code, and to what it says decides its records.

    Raises:
        BadRecord: a file cannot be read.
    """
    if tokenizer.reading is None:
        return None
    stats = [(str(path.resolve()), path.stat()) for path in paths]
    if sum(s.st_size for _, s in stats) < SMALLEST:
        return None
    files = [[path, s.st_size, s.st_mtime_ns] for path, s in stats]
    kind = type(tokenizer)
    own = [each for each in kind.__mro__ if issubclass(each, Tokenizer) and each is not Tokenizer]
    code = {each.__qualname__: Path(inspect.getfile(each)).read_bytes() for each in own}
    what = [VERSION, name, f"{kind.__module__}.{kind.__qualname__}", _settings(tokenizer, tokenizer.reading), files]
    folder = data_root() / "shelves" / _hash(what, code)
    called = [str(path) for path in paths]
    if folder.exists():
        try:
            return Shelf(folder, name, called)
        except (OSError, ValueError, EOFError):  # of a machine that went down while it was written, say
            log.warning("%s: %s is broken; it is made again", name, folder)
            shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=folder.name, suffix=".part") as made:
            part = Path(made) / "whole"
            if not fill(part, name, paths, tokenizer):
                return None
            with contextlib.suppress(OSError):  # where another process was quicker, what it made is as good
                part.rename(folder)
            return Shelf(folder, name, called)
    except OSError as error:
        log.warning("%s: its records are kept in memory; they could not be written to %s: %s", name, folder.parent, error)
        return None


def fill(folder: Path, name: str, paths: Sequence[Path], tokenizer: Tokenizer) -> bool:
    """Write the records of files to a folder; False where there is none, or one is more than a text."""
    log.info("%s: %d files are read once, into %s", name, len(paths), folder.parent.parent)
    folder.mkdir()
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
    _save(folder / "path.npy", np.frombuffer(path_N, np.int32))
    _save(folder / "samples.npy", np.frombuffer(sample_N, np.int64))
    return bool(sample_N)


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
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()
        _save(self.place.with_suffix(".npy"), np.frombuffer(self.ends, np.int64))


class _Strings:
    """What a ``_Writer`` wrote. Raises ValueError where it is not whole."""

    def __init__(self, place: Path):
        data = place.with_suffix(".bin")
        self.ends = _mapped(place.with_suffix(".npy"))
        if data.stat().st_size != self.ends[-1]:
            raise ValueError(f"{data} is not whole")
        self.data = np.memmap(data, np.uint8, "r") if self.ends[-1] else np.zeros(0, np.uint8)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, i: int) -> bytes:
        start = int(self.ends[i - 1]) if i else 0
        return self.data[start : int(self.ends[i])].tobytes()


def _mapped(place: Path) -> np.ndarray:
    return np.load(place, "r", allow_pickle=False)  # type: ignore[no-any-return]


def _save(place: Path, values: np.ndarray) -> None:
    with place.open("wb") as file:
        np.save(file, values)
        file.flush()
        os.fsync(file.fileno())


def _settings(tokenizer: Tokenizer, names: Sequence[str]) -> dict[str, Any]:
    return {name: getattr(tokenizer, name) for name in names}


def _hash(value: Any, files: Assets) -> str:
    found = hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16)
    for file, data in sorted(files.items()):
        found.update(json.dumps([file, len(data)]).encode() + data)
    return found.hexdigest()
