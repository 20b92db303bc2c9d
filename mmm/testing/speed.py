"""How fast raw values become tokens.

Shape suffixes: none.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from mmm.core.draw import Draw
from mmm.core.modality import Modality

from .tools import named

SLOWEST = 200
"""Tokens a second, below which one data-loader process starves any trainer."""


def check_speed(modality: Modality, raws: Sequence[Any], seconds: float = 0.3) -> str:
    """Tokenise the raw values again and again.

    Args:
        modality: fitted. raws: a few raw values. seconds: how long.

    Returns:
        Records and tokens a second, in one process.
    """
    records = tokens = 0
    began = time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        for raw in raws:
            tokens += len(modality.tokenizer.tokenize(raw, Draw(0).at(records)))
            records += 1
    rate = tokens / passed
    assert rate >= SLOWEST, f"{named(modality)}: {rate:,.0f} tokens a second; a trainer waits for them below {SLOWEST:,}."
    return f"{records / passed:,.0f} records a second, {rate:,.0f} tokens"
