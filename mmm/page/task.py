"""A task: its metric, beside the guess, and what was taken for what."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import Any

from .parts import number, table, unseen

ON = {
    "test": "the records of the test set",
    "validation": "the held-out share of the records (no test set was named; --data.test.MODALITY gives one)",
}


def task_verdict(task: Mapping[str, Any]) -> str:
    """One sentence: the figure, and whether it lies above the guess with its whole interval."""
    figure = f"{task['metric']} {number(task['value'])} on {task['records']:,} {task['on']} records"
    guess = 0.0 if not math.isfinite(task["guess"]) else task["guess"]
    if not math.isfinite(task["low"]):
        return f"{figure}; too few to say more."
    if task["low"] > guess:
        return f"{figure}, better than a guess."
    return f"{figure}; not yet better than a guess." if task["high"] > guess else f"{figure}, worse than a guess."


def task_section(task: Mapping[str, Any], trained_on: Mapping[str, int]) -> str:
    """The figures, and the table of confusions where there is one.

    Args:
        trained_on: records it is judged by that are training records, too, by source.
    """
    words = (
        f"<p>Measured on {ON[task['on']]}, {unseen(trained_on)}. The interval holds 99 % of 2,000 resamplings of the "
        "records. The <strong>guess</strong> looks at no record: the commonest label, or the mean of all. Every answer "
        "stands in <code>predictions.csv</code>.</p>"
    )
    rows = [
        (task["metric"], _figure(task["value"]), f"{_figure(task['low'])} to {_figure(task['high'])}", _figure(task["guess"])),
        *((name, _figure(value), "", "") for name, value in task["more"].items()),
    ]
    figures = table(("", "value", "99 % interval", "guess"), rows)
    return words + figures + _confusion(task["confusion"])


def _figure(value: float) -> str:
    return number(value) if math.isfinite(value) else "-"


def _confusion(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    rows = [
        (f"<strong>{escape(label)}</strong>", *(f"<strong>{n:,}</strong>" if i == j else f"{n:,}" for j, n in enumerate(row)))
        for i, (label, row) in enumerate(zip(found["labels"], found["counts"], strict=True))
    ]
    return "<h3>A row a label, a column an answer</h3>" + table(("", *map(escape, found["labels"])), rows, raw=True)
