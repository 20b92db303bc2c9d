"""What a tokenizer makes of files that are damaged.

Shape suffixes: none.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mmm.core.errors import BadRecord
from mmm.core.modality import Modality, Tokenizer
from mmm.core.tokens import Piece
from mmm.data.shelf import Shelf, fill

from .pieces import check_piece
from .tools import named


def damaged(good: bytes) -> Iterator[tuple[str, bytes]]:
    """Twenty ways to spoil a file, each with its name."""
    n = len(good)
    yield from {
        "empty": b"", "one byte": good[:1], "header only": good[:16], "half": good[: n // 2], "last byte gone": good[:-1],
        "zeros": bytes(n), "ones": b"\xff" * n, "first half zeros": bytes(n // 2) + good[n // 2 :],
        "second half zeros": good[: n // 2] + bytes(n - n // 2), "reversed": good[::-1], "shifted": good[1:],
        "a NUL in front": b"\0" + good, "a NUL inside": good[: n // 2] + b"\0" + good[n // 2 :],
        "noise behind": good + bytes(range(256)), "inverted": bytes(255 - b for b in good),
        "not UTF-8": b"\xc3\x28\xa0\xa1" + good, "twice": good + good, "newlines": b"\n" * 100,
        "a web page": b"<!DOCTYPE html><html></html>",
        "one long line": b"9" * 200_000,
    }.items()  # fmt: skip


def check_files(modality: Modality, good: Path, folder: Path) -> int:
    """A good file is read, and from disk as well, where its records may be kept there; each of twenty damaged copies is read
    too, or refused with a ValueError that names the file.

    Args:
        modality: fitted. good: a file its tokenizer reads. folder: an empty one for the copies.

    Returns:
        How many copies were refused.
    """
    tokenizer, refused = modality.tokenizer, 0
    ending = next((s for s in sorted(tokenizer.suffixes, key=len)[::-1] if good.name.lower().endswith(s)), good.suffix)
    assert list(_read(tokenizer, good)), f"{named(modality)}: no record in {good}."
    _check_kept(modality, good, folder / "kept")
    for i, (damage, data) in enumerate(damaged(good.read_bytes())):
        path = folder / f"damaged_{i}{ending}"
        path.write_bytes(data)
        try:
            for piece in _read(tokenizer, path):
                check_piece(modality, tokenizer, piece)
        except BadRecord as error:
            assert path.name in str(error), (
                f"{named(modality)}: the message about a damaged file ({damage}) does not name it: {error}"
            )
            refused += 1
        except ValueError as error:  # the reason a raw value is no good; whoever tokenises a record adds the file's name
            assert str(error), f"{named(modality)}: a damaged file ({damage}) is refused without a word. Say what is wrong."
            refused += 1
        except Exception as error:
            raise AssertionError(
                f"{named(modality)}: a damaged file ({damage}) ends in {type(error).__name__}: {error}. "
                "Catch what the decoder raises and raise BadRecord(path, record, reason)."
            ) from error
    return refused


def _check_kept(modality: Modality, path: Path, folder: Path) -> None:
    """What is kept on disk of a large file is what its tokenizer reads there and says of it."""
    who, tokenizer = named(modality), modality.tokenizer
    if tokenizer.reading is None:
        return
    for kind, names in {"reading": tokenizer.reading, "measuring": tokenizer.measuring}.items():
        missing = [name for name in names if not hasattr(tokenizer, name)]
        assert not missing, f"{who}: {kind} names {', '.join(missing)}, and its tokenizer has no such attribute."
    if not fill(folder, "own", [path], tokenizer):
        return  # no strings
    records, shelf = list(tokenizer.records(path)), Shelf(folder, "own", [str(path)])
    assert [example["own"] for example in shelf] == records, (
        f"{who}: records that are kept on disk are others than those of the file."
    )
    lengths = [tokenizer.length(record) for record in records]
    for kept in (shelf, shelf.encoded(modality)):
        assert kept.lengths(modality).tolist() == lengths, f"{who}: the lengths of records that are kept on disk are others."
        assert [tokenizer.length(kept.record(i)) for i in range(len(kept))] == lengths, (
            f"{who}: what encode() gave has another length."
        )


def _read(tokenizer: Tokenizer, path: Path) -> Iterator[Piece]:
    for record in tokenizer.records(path):
        tokenizer.length(record)
        yield tokenizer.tokenize(record.raw)
