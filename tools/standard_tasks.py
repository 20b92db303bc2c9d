"""Standard sets of the field as the tables that fine-tuning reads: train.csv and test.csv with the columns record and label.

    python tools/standard_tasks.py SET SOURCE FOLDER

SET and its SOURCE as it is published:
  sst2       a folder with train.tsv.gz and test.tsv.gz (sentence, tab, 0 or 1)
  flip-q3    splits.zip of FLIP's secondary_structure: three states a residue; "-" where the structure is unresolved
  flip-gb1   splits.zip of FLIP's gb1: the four-site fitness, split two_vs_rest
  fsdd       fsdd.tar.xz: spoken digits; the speaker theo is the test set
  cifar10    a folder with train.npz and test.npz (arrays jpeg, offsets, labels): 5,000 labels, the whole test set
"""

from __future__ import annotations

import csv
import gzip
import io
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

Row = tuple[str, str]


def write(path: Path, rows: Iterable[Row]) -> int:
    """Write a table; returns its rows."""
    rows = list(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("record", "label"))
        table.writerows(rows)
    return len(rows)


def sst2(source: Path, folder: Path) -> None:
    for split in ("train", "test"):
        lines = gzip.decompress((source / f"{split}.tsv.gz").read_bytes()).decode().splitlines()
        rows = [tuple(line.split("\t")) for line in lines]
        print(split, write(folder / f"{split}.csv", rows))  # type: ignore[arg-type]


def fasta(text: str) -> dict[str, tuple[str, str]]:
    """(header, sequence) by id."""
    entries: dict[str, tuple[str, str]] = {}
    for entry in text.split(">")[1:]:
        header, *lines = entry.splitlines()
        entries[header.split()[0]] = (header, "".join(lines))
    return entries


def flip_q3(source: Path, folder: Path) -> None:
    with zipfile.ZipFile(source) as archive:
        sequences, labels, masks = (
            fasta(archive.read(f"splits/{name}.fasta").decode()) for name in ("sequences", "sampled", "mask")
        )
    rows: dict[str, list[Row]] = {"train": [], "test": []}
    for name, (header, states) in labels.items():
        if "VALIDATION=True" in header:
            continue
        seen = "".join(s if m == "1" else "-" for s, m in zip(states, masks[name][1], strict=True))
        rows["test" if "SET=test" in header else "train"].append((sequences[name][1], seen))
    for split, found in rows.items():
        print(split, write(folder / f"{split}.csv", found))


def flip_gb1(source: Path, folder: Path) -> None:
    with zipfile.ZipFile(source) as archive:
        table = list(csv.DictReader(io.StringIO(archive.read("splits/two_vs_rest.csv").decode())))
    for split in ("train", "test"):
        print(split, write(folder / f"{split}.csv", [(r["sequence"], r["target"]) for r in table if r["set"] == split]))


def fsdd(source: Path, folder: Path) -> None:
    rows: dict[str, list[Row]] = {"train": [], "test": []}
    (folder / "sounds").mkdir(parents=True, exist_ok=True)
    with tarfile.open(source) as archive:
        for member in sorted(archive.getmembers(), key=lambda m: m.name):
            name = Path(member.name).name
            if not member.isfile() or not name.endswith(".wav"):
                continue
            data = archive.extractfile(member)
            assert data is not None
            (folder / "sounds" / name).write_bytes(data.read())
            digit, speaker, _ = name.split("_")
            rows["test" if speaker == "theo" else "train"].append((f"sounds/{name}", digit))
    for split, found in rows.items():
        print(split, write(folder / f"{split}.csv", found))


def cifar10(source: Path, folder: Path) -> None:
    for split in ("train", "test"):
        with np.load(source / f"{split}.npz") as arrays:
            jpeg, offsets, labels = arrays["jpeg"], arrays["offsets"], arrays["labels"]
        chosen = np.arange(len(labels))
        if split == "train":  # 500 of each class, the first of them
            chosen = np.sort(np.concatenate([np.flatnonzero(labels == c)[:500] for c in np.unique(labels)]))
        (folder / split).mkdir(parents=True, exist_ok=True)
        rows = []
        for i in chosen:
            file = folder / split / f"{i:05}.jpg"
            file.write_bytes(jpeg[offsets[i] : offsets[i + 1]].tobytes())
            rows.append((f"{split}/{file.name}", str(labels[i])))
        print(split, write(folder / f"{split}.csv", rows))


SETS: dict[str, Callable[[Path, Path], None]] = {
    "sst2": sst2,
    "flip-q3": flip_q3,
    "flip-gb1": flip_gb1,
    "fsdd": fsdd,
    "cifar10": cifar10,
}

if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] not in SETS:
        sys.exit(__doc__)
    SETS[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
