"""Where the settings that all optimisers share can lie."""

from __future__ import annotations

from mmm.core.optimizer import Optimizer


def check_ranges(settings: Optimizer) -> None:
    """Raises ValueError for a number that would turn steps around, make them nothing, or let the rate grow past its peak."""
    for name, sound, expected in (
        ("lr", settings.lr >= 0, "a rate of 0 or more"),
        ("weight_decay", settings.weight_decay >= 0, "0 or more"),
        ("warmup", settings.warmup >= 0, "a number of steps, 0 or more"),
        ("final", 0 <= settings.final <= 1, "a share of lr, from 0 to 1"),
        ("clip", settings.clip is None or settings.clip > 0, "a norm above 0, or null for no clipping"),
    ):
        if not sound:  # as for NaN, of which nothing is true
            raise ValueError(f"model.optimizer.{name} is {getattr(settings, name)}; expected {expected}")
