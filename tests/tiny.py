"""Tiny files of every modality, a tiny recipe over them, and commands run in this process: for tests of whole runs."""

import contextlib
import io
import logging
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmm.yaml import dump

WORDS = ["stream", "token", "mask", "hidden", "shared", "encoder", "row", "layout", "of", "the", "a", "is"]
MODALITIES = ("text", "image", "audio", "protein")

PARTS: dict[str, dict[str, Any]] = {
    "text": {"class_path": "Text", "init_args": {"vocabulary": 270, "max_length": 24, "record_words": 8}},
    "image": {"class_path": "Image", "init_args": {"size": 8, "patch": 4, "channels": 1, "cls": True}},
    "audio": {"class_path": "Audio", "init_args": {"rate": 4000, "mels": 8, "hop_ms": 20.0, "max_seconds": 0.6}},
    "protein": {"class_path": "Protein", "init_args": {"max_length": 24}},
}
TARGETS = {
    "text": "TokenIds",
    "image": "Pixels",
    "audio": {"class_path": "AcousticUnits", "init_args": {"clusters": 4}},
    "protein": "TokenIds",
}


def write(folder: Path, names: Iterable[str] = MODALITIES, records: int = 60, seed: int = 0) -> dict[str, str]:
    """Write files of some modalities. Returns ``data.files`` for them."""
    rng, folder = random.Random(seed), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for name in names:
        if name == "text":
            paragraphs = (" ".join(rng.choices(WORDS, k=rng.randint(8, 20))) for _ in range(records))
            (folder / "some.txt").write_text("\n\n".join(paragraphs), encoding="utf-8")
            made[name] = str(folder / "*.txt")
        elif name == "image":
            pixels = np.random.default_rng(seed).integers(0, 256, (records, 8, 8), dtype=np.uint8)
            np.savez(folder / "some.npz", images=pixels)
            made[name] = str(folder / "*.npz")
        elif name == "audio":
            import soundfile

            (folder / "sounds").mkdir(exist_ok=True)
            for i in range(records):
                noise = np.random.default_rng([seed, i]).normal(0, 0.1, rng.randint(1200, 2600))
                soundfile.write(folder / "sounds" / f"{i:03}.wav", noise, 4000)
            made[name] = str(folder / "sounds")
        else:
            residues = ["".join(rng.choices("ACDEFGHIKLMNPQRSTVWY", k=rng.randint(10, 30))) for _ in range(records)]
            (folder / "some.fasta").write_text("".join(f">p{i}\n{r}\n" for i, r in enumerate(residues)))
            made[name] = str(folder / "some.fasta")
    return made


def values(files: dict[str, str], steps: int = 4) -> dict[str, Any]:
    """A recipe over the modalities of ``files``, small enough for a run in a fraction of a second."""
    return {
        "seed": 0,
        "model": {
            "modalities": {name: PARTS[name] for name in files},
            "encoder": {"class_path": "Transformer", "init_args": {"width": 16, "depth": 1, "heads": 2}},
            "objective": {
                "class_path": "MaskedModeling",
                "init_args": {
                    "masking": {"class_path": "Uniform", "init_args": {"rate": 0.3}},
                    "corruption": "MaskVector",
                    "targets": {name: TARGETS[name] for name in files},
                },
            },
        },
        "data": {"files": dict(files), "tokens_per_batch": 256, "validation": 0.3},
        "trainer": {"max_steps": steps, "accelerator": "cpu", "precision": "32-true"},
    }


def save(path: Path, recipe: dict[str, Any]) -> str:
    """Write a recipe. Returns its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"# {path.name} - a tiny recipe\n{dump(recipe)}", encoding="utf-8")
    return str(path)


@dataclass(frozen=True)
class Done:
    """What a command left: its exit status, and what it wrote."""

    status: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """Its error lines."""
        return [line for line in self.err.splitlines() if line.startswith("mmm: error:")]


def mmm(*words: str | Path) -> Done:
    """A command in this process, as from a shell."""
    from mmm.cli import main

    return captured(main, [str(w) for w in words])


def captured(main: Any, words: Sequence[str]) -> Done:
    """What a command's ``main`` returns and writes."""
    out, err, logger = io.StringIO(), io.StringIO(), logging.getLogger("mmm")
    before, logger.handlers = logger.handlers, []
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = main(words)
            except SystemExit as end:
                status = int(end.code or 0)
    finally:
        logger.handlers = before
    return Done(status, out.getvalue(), err.getvalue())
