"""What is wide and soon forgotten, some rows at a time.

Shape suffixes: N rows.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

LARGEST = 2**24
"""Numbers that are kept for the backward pass at once: 64 MiB in float32."""


def rowwise(function: Callable[[Tensor, Tensor], Tensor], x_N: Tensor, y_N: Tensor, width: int) -> Tensor:
    """``function(x_N, y_N)``, one value a row, where what it makes of a row on the way is ``width`` numbers wide.

    Where all rows together make more than ``LARGEST``, they are taken in pieces, and each piece is made again for the backward
    pass: memory is bounded, and what is done once more is what ``function`` does forward.
    """
    rows = max(1, LARGEST // width)
    if len(x_N) <= rows:
        return function(x_N, y_N)
    pieces = zip(x_N.split(rows), y_N.split(rows), strict=True)
    return torch.cat([checkpoint(function, x, y, use_reentrant=False, preserve_rng_state=False) for x, y in pieces])
