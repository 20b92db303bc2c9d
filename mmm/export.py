"""``mmm export``: a model, from wherever ``mmm.load`` reads it, written for others to use.

Shape suffixes: none.
"""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path

from .core.errors import BadRecipe, did_you_mean

FORMATS = ("onnx", "safetensors", "timm", "transformers")


def export(source: str | Path, to: str, folder: str | Path, modality: str | None = None) -> list[str]:
    """Write a model into a new folder, with a model card; the folder appears whole or not at all.

    Args:
        source: see ``mmm.load``. to: one of ``FORMATS``. folder: new, or empty.
        modality: which one, for ``onnx``; all of them by default.

    Returns:
        What was written and how it was checked, a line each.

    Raises:
        ValueError: an unknown format, a folder that is not empty, a source that cannot be read, a model that does not fit.
    """
    shown, folder = folder, Path(folder).absolute()
    if to not in FORMATS:
        raise BadRecipe(f"--to {to}: no such format. {did_you_mean(to, FORMATS)}")
    if modality is not None and to != "onnx":
        raise BadRecipe(f"--modality {modality}: of --to onnx alone; {to} takes the model whole")
    _free(folder)
    from .modelcard import card
    from .sources import open_source

    opened = open_source(source)
    part = folder.with_name(f"{folder.name}.part")
    try:
        part.mkdir(parents=True)
    except FileExistsError:
        raise BadRecipe(f"{part}: left of an export that was cut off, or one still runs; remove it, or name another") from None
    except OSError as error:
        raise BadRecipe(f"{shown}: cannot be made: {error.strerror}") from None
    try:
        writer = importlib.import_module(f"{__package__}.exports.to_{to}")
        written = writer.write(opened, part, *(() if modality is None else (modality,)))
        (part / "README.md").write_text(card(opened, written, folder.name), encoding="utf-8")
        _free(folder)
        if folder.exists():
            folder.rmdir()
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    files = [p for p in folder.rglob("*") if p.is_file()]
    return [*written.told, f"{shown}: {len(files)} files, {sum(p.stat().st_size for p in files) / 1e6:.1f} MB"]


def _free(folder: Path) -> None:
    """Raises BadRecipe where something is there."""
    if folder.is_dir() and not any(folder.iterdir()):
        return
    if folder.exists() or folder.is_symlink():
        what = "is not empty" if folder.is_dir() else "is a file"
        raise BadRecipe(f"{folder} {what}; nothing was written: name a new folder")
