"""The schema of a data card (``data_cards/README.md`` tells it in words): a file in, checked fields out."""

from __future__ import annotations

import platform
import re
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mmm import yaml
from mmm.core.errors import BadRecipe, did_you_mean

SPLITS = ("train", "validation", "test")
SIZES = ("records", "bytes", "words", "tokens", "hours", "residues")

_TEXTS = ("name", "title", "licence", "preprocessing", "intended_use", "known_limits")
_REQUIRED = (*_TEXTS, "source", "size", "splits", "files", "checksum", "prepare")
_OPTIONAL = ("modality", "modalities", "checksum_note", "archives")


def read(path: Path, preparers: Collection[str]) -> dict[str, Any]:
    """The fields of the card in a file, by the names that ``Card`` has for them.

    Args:
        preparers: the names of those that can make its data.

    Raises:
        BadRecipe: it does not follow the schema; names the file, the key and what was expected.
    """
    raw = yaml.load(path)
    _keys(path, "a card", raw, _REQUIRED, _OPTIONAL)
    texts = {key: _text(path, key, raw[key]) for key in _TEXTS}
    if texts["name"] != path.stem or not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", path.stem):
        raise BadRecipe(f"{path}: name: {texts['name']!r}: expected the file's own name, in lower case with hyphens")
    return {
        **texts,
        **_how(path, raw["prepare"], preparers),
        **_splits(path, raw["splits"], raw["files"]),
        **_checksum(path, raw["checksum"], raw.get("checksum_note")),
        "modalities": _modalities(path, raw),
        "source": _source(path, raw["source"]),
        "size": _size(path, raw["size"]),
        "archives": _sums(path, "archives", raw.get("archives", {})),
    }


def share(text: str) -> float | None:
    """0.05 of ``5%``; None where the text is not a share."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text)
    return float(match[1]) / 100 if match and 0 < float(match[1]) < 100 else None


def _keys(path: Path, what: str, found: Collection[str], required: Collection[str], optional: Collection[str] = ()) -> None:
    choices = {*required, *optional}
    for key in found:
        if key not in choices:
            raise BadRecipe(f"{path}: {what} has no key {key!r}. {did_you_mean(key, choices)}")
    for key in required:
        if key not in found:
            raise BadRecipe(f"{path}: {what} lacks the key {key!r}")


def _text(path: Path, key: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise BadRecipe(f"{path}: {key}: {value!r}: expected text")
    return value.strip()


def _mapping(path: Path, key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(k, str) for k in value):
        raise BadRecipe(f"{path}: {key}: {value!r}: expected `key: value` lines")
    return value


def _inside(path: Path, key: str, name: str) -> str:
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or "\\" in name:
        raise BadRecipe(f"{path}: {key}: {name!r}: expected a path inside the card's folder, with forward slashes")
    return name


def _modalities(path: Path, raw: Mapping[str, Any]) -> tuple[str, ...]:
    if ("modality" in raw) == ("modalities" in raw):
        raise BadRecipe(f"{path}: expected either modality: NAME, or modalities: [NAME, NAME] for pairs")
    if "modality" in raw:
        return (_text(path, "modality", raw["modality"]),)
    names = raw["modalities"]
    if not isinstance(names, list) or len(names) < 2 or len(set(map(str, names))) < len(names):
        raise BadRecipe(f"{path}: modalities: {names!r}: expected a list of two or more different names")
    return tuple(_text(path, "modalities", name) for name in names)


def _source(path: Path, value: Any) -> dict[str, str]:
    source = {key: _text(path, f"source.{key}", text) for key, text in _mapping(path, "source", value).items()}
    _keys(path, "source", source, ("url", "citation"))
    return source


def _size(path: Path, value: Any) -> dict[str, int | float | str]:
    size = _mapping(path, "size", value)
    _keys(path, "size", size, ("records",), SIZES)
    for key, number in size.items():
        if isinstance(number, bool) or not isinstance(number, int | float | str):
            raise BadRecipe(f"{path}: size.{key}: {number!r}: expected a number, or text such as `about 65 million`")
    return size


def _splits(path: Path, splits: Any, files: Any) -> dict[str, Any]:
    splits = {split: _text(path, f"splits.{split}", text) for split, text in _mapping(path, "splits", splits).items()}
    _keys(path, "splits", splits, ("train",), SPLITS)
    globs = {split: _globs(path, f"files.{split}", value) for split, value in _mapping(path, "files", files).items()}
    _keys(path, "files", globs, ("train",), splits)
    for split, text in splits.items():
        shared = split == "validation" and share(text) is not None
        if (split in globs) == shared:
            or_share = ", or a share of train such as 5%, not both" if split == "validation" else ""
            raise BadRecipe(f"{path}: splits.{split}: {text!r}: expected files.{split}{or_share}")
    return {"splits": splits, "files_of": globs}


def _globs(path: Path, key: str, value: Any) -> tuple[str, ...]:
    globs = value if isinstance(value, list) else [value]
    if not globs:
        raise BadRecipe(f"{path}: {key}: expected a glob, or a list of globs")
    return tuple(_inside(path, key, _text(path, key, glob)) for glob in globs)


def _checksum(path: Path, value: Any, note: Any) -> dict[str, Any]:
    """The sums that hold for this Python: some data are the documentation of the very Python that prepared them."""
    sums = {} if value is None else _mapping(path, "checksum", value)
    versions = {key: of_one for key, of_one in sums.items() if key.startswith("python ")}
    if 0 < len(versions) < len(sums):
        raise BadRecipe(f"{path}: checksum: expected files, or `python 3.11.7` and the like with files under each, not both")
    if (versions or not sums) and note is None:
        raise BadRecipe(f"{path}: checksum: does not hold everywhere; say why under checksum_note")
    read = {key: _sums(path, f"checksum.{key}", of_one) for key, of_one in versions.items()}
    return {
        "checksum": read.get(f"python {platform.python_version()}", {}) if versions else _sums(path, "checksum", sums),
        "checksum_note": "" if note is None else _text(path, "checksum_note", note),
    }


def _sums(path: Path, key: str, value: Any) -> dict[str, str]:
    sums = _mapping(path, key, value)
    for file, digest in sums.items():
        if not re.fullmatch(r"[0-9a-f]{64}", str(digest)):
            raise BadRecipe(f"{path}: {key}.{file}: {digest!r}: expected a sha256, 64 digits of 0-9 a-f")
    return {_inside(path, key, file): digest for file, digest in sums.items()}


def _how(path: Path, value: Any, preparers: Collection[str]) -> dict[str, Any]:
    how = _mapping(path, "prepare", value)
    if "manual" in how:
        _keys(path, "prepare", how, ("manual",))
        return {"preparer": None, "args": {}, "manual": _text(path, "prepare.manual", how["manual"])}
    _keys(path, "prepare", how, ("preparer",), ("args", "manual"))
    if how["preparer"] not in preparers:
        raise BadRecipe(f"{path}: prepare.preparer: {how['preparer']!r}. {did_you_mean(how['preparer'], preparers)}")
    return {"preparer": how["preparer"], "args": _mapping(path, "prepare.args", how.get("args", {})), "manual": None}
