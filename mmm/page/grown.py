"""What became of a model's old modalities while it grew."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from .parts import number, table


def grown_section(grown: Mapping[str, Any]) -> str:
    """A row an old modality: its skill before and after, how far it moved, and whether its outputs are the same."""
    body = "was frozen" if not grown["body"] else f"learned with {grown['body']:g} of the learning rate"
    words = (
        f"<p>This run added {escape(', '.join(grown['new']))} to <code>{escape(str(grown['source']))}</code>; all that model "
        f"had {body}. Before the first step the outputs of every old modality were those of the source, bit for bit "
        "(<code>step0</code>); the table tells how they fared since, on the validation records of the run they were learned "
        "in. <strong>Moved</strong> is the skill after less that before, over the same records; intervals hold 99 % of 2,000 "
        "resamplings of them.</p>"
    )
    rows = [_row(name, proof, grown["old"].get(name)) for name, proof in grown["step0"].items()]
    return words + table(("modality", "equal at step 0", "skill before", "after", "moved", "outputs now"), rows)


def _row(name: str, proof: Mapping[str, Any], move: Mapping[str, Any] | None) -> tuple[str, ...]:
    equal = f"{proof['numbers']:,} numbers, {proof['records']} records"
    if move is None:
        return (name, equal, "not scored", "-", "-", "-")
    now = "the same bits" if move["equal"] else f"off by at most {move['largest_difference']:.2g}"
    return (name, equal, *(_interval(move[key]) for key in ("before", "after", "moved")), now)


def _interval(skill: Mapping[str, Any]) -> str:
    return f"{number(skill['value'])} ({number(skill['low'])} to {number(skill['high'])})"
