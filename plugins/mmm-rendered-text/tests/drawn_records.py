"""Small files for the tests of recipes and README."""

import gzip
import random
from pathlib import Path

WORDS = (
    *("a", "text", "is", "drawn", "on", "one", "line", "and", "cut", "into", "patches", "of", "which", "some", "are", "hidden"),
    *("so", "that", "others", "tell"),
)


def sentences(number: int, seed: int = 0) -> list[str]:
    """Texts of 4 to 12 words."""
    rng = random.Random(seed)
    return [" ".join(rng.choices(WORDS, k=rng.randint(4, 12))) for _ in range(number)]


def corpus(path: Path) -> Path:
    """A .txt file of about 40 records of 64 words."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(sentences(400)), encoding="utf-8")
    return path


def table(path: Path, records: int = 40, seed: int = 1) -> Path:
    """A table of two classes: with the word "hidden" or without."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [f"{text},{int('hidden' in text)}\n" for text in sentences(records, seed)]
    path.write_text("record,label\n" + "".join(rows), encoding="utf-8")
    return path


def sst2(folder: Path) -> Path:
    """A folder as SST-2 is published."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, split in enumerate(("train", "test")):
        lines = "".join(f"{text}\t{int('hidden' in text)}\n" for text in sentences(40, seed))
        (folder / f"{split}.tsv.gz").write_bytes(gzip.compress(lines.encode()))
    return folder
