"""Images: the 1,797 tiny handwritten digits that scikit-learn carries."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from mmm.data.prepare import wheel


def prepare(folder: Path) -> str:
    """Write ``images.npz``: ``images`` uint8 (1797, 8, 8), white strokes on black, and ``labels`` int64 (1797,), 0 to 9.

    The source has 17 levels of grey, 0 to 16; they are spread over 0 to 255.

    Args:
        folder: an empty folder to fill.
    """
    with gzip.open(wheel("sklearn", "scikit-learn") / "datasets" / "data" / "digits.csv.gz", "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.int64)  # the label stands last
    images = ((table[:, :-1] * 255 + 8) // 16).astype(np.uint8).reshape(-1, 8, 8)
    np.savez(folder / "images.npz", images=images, labels=table[:, -1])
    return f"{len(images):,} images of 8 x 8"
