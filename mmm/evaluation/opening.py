"""Files of a data set as it was downloaded: in a folder, in an archive, or one alone. Nothing is ever unpacked to the disk."""

from __future__ import annotations

import gzip
import hashlib
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mmm.core.errors import BadRecord

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
LARGEST = 2**30
"""Bytes of one file, unpacked: 1 GiB."""
LARGEST_ARCHIVE = 2**33
"""Bytes of all files that are taken of one archive: 8 GiB."""

Wanted = Callable[[str], bool]


def files(path: Path, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of the wanted files; names are relative to the folder or archive, with slashes, and lose a ``.gz``.

    A folder without a wanted file is looked through for archives.

    Raises:
        BadRecord: the path does not exist, an archive is broken, a file is larger than ``LARGEST``, or none is wanted.
    """
    path, found = Path(path), False
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            if wanted(_plain(file.relative_to(path).as_posix())):
                found = True
                yield _plain(file.relative_to(path).as_posix()), read(file)
        for archive in [] if found else sorted(p for p in path.iterdir() if is_archive(p)):
            for item in _members(archive, wanted):
                found = True
                yield item
    elif is_archive(path):
        for item in _members(path, wanted):
            found = True
            yield item
    elif wanted(_plain(path.name)):
        found = True
        yield _plain(path.name), read(path)
    if not found:
        raise BadRecord(
            path, None, "no such file or folder" if not path.exists() else "holds no file of the kind that is needed"
        )


def is_archive(path: Path) -> bool:
    """Whether a file is an archive, by its ending."""
    return path.is_file() and path.name.lower().endswith(ARCHIVES)


def read(path: Path) -> bytes:
    """The bytes of a file, plain or gzip.

    Raises:
        BadRecord: it is not there, broken, or larger than ``LARGEST``.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BadRecord(path, None, f"cannot be read: {error.strerror if isinstance(error, OSError) else error}") from error
    if len(data) > LARGEST:
        raise BadRecord(path, None, f"more than {LARGEST} bytes")
    return data


def text(path: Path | str, data: bytes) -> str:
    """UTF-8 text without a byte-order mark. Raises BadRecord where it is none."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRecord(path, None, f"not UTF-8 (byte {error.start} is 0x{data[error.start]:02x}); convert it") from error


def digest(paths: Iterable[Path]) -> str:
    """sha256 of files, and of the names and files of folders, as they lie there."""
    total = hashlib.sha256()
    for path in paths:
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            total.update(f"{file.relative_to(path).as_posix()}\0{file.stat().st_size}\0".encode())
            with file.open("rb") as stream:
                while block := stream.read(2**20):
                    total.update(block)
    return total.hexdigest()


def _plain(name: str) -> str:
    return name.removesuffix(".gz")


def _members(path: Path, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    """Wanted members in the order of the archive: going back in a compressed one would unpack it anew."""
    taken = 0
    try:
        for name, data in _zip(path, wanted) if path.suffix.lower() == ".zip" else _tar(path, wanted):
            taken += len(data)
            if len(data) > LARGEST or taken > LARGEST_ARCHIVE:
                raise BadRecord(path, name, f"more than {LARGEST} bytes, or all that is taken more than {LARGEST_ARCHIVE}")
            yield name, data
    except (tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise BadRecord(path, None, f"a broken archive: {error or type(error).__name__}") from error


def _zip(path: Path, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.is_dir() and wanted(member.filename):
                with archive.open(member) as file:
                    yield member.filename, file.read(LARGEST + 1)


def _tar(path: Path, wanted: Wanted) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() and wanted(member.name) else None
            if file is not None:
                yield member.name, file.read(LARGEST + 1)
