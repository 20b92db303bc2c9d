"""Skill, in words, numbers and bars."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from .parts import number, table, unseen


def verdict(skills: Mapping[str, Mapping[str, Any]]) -> str:
    """One sentence on all modalities: learned is what lies above the guess with its whole interval, where nothing was shown."""
    if not skills:
        return "Nothing was scored: this objective gives no answers, or nothing was asked."
    learned = [n for n, s in skills.items() if s["masked"][1] > 0]
    copied = [n for n, s in skills.items() if n not in learned and s["low"] > 0]
    rest = [n for n in skills if n not in learned + copied]
    if len(rest) == len(skills):
        return f"No better than a guess that looks at no context: {_listed(rest)}."
    words = []
    if learned:
        words.append(f"the model learned to use context in {_listed(learned)}")
    if copied:
        words.append(f"in {_listed(copied)} it is better than a guess only where asked tokens are shown")
    if rest:
        words.append(f"in {_listed(rest)} it is not yet better than a guess")
    sentence = "; ".join(words)
    return f"{sentence[0].upper()}{sentence[1:]}."


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def skill_table(skills: Mapping[str, Mapping[str, Any]], masks: Mapping[str, Any], trained_on: Mapping[str, int]) -> str:
    """The section: what skill is, and a row a modality.

    Args:
        trained_on: records it is judged by that are training records, too, by source.
    """
    if not skills:
        return "<p>No answer of this run could be scored.</p>"
    copied = max((m["kept"] for m in masks.values()), default=0.0)
    words = (
        "<p><strong>Skill</strong> is the share of a guess's error that the model takes away: 1 − loss / baseline, over all "
        f"tokens that were asked in validation records, {unseen(trained_on)}. At 1 every answer is perfect, at 0 the "
        "model is no better than the guess, below 0 it is worse. The <strong>baseline</strong> is the best guess that looks "
        "at no context. Bars are 99 % intervals over the records."
        + (
            f" Up to {copied:.0%} of a modality's asked tokens are shown as they are and can be copied; the line below its "
            "skill is over those that show nothing, and tells what was learned of the tokens around."
            if copied
            else ""
        )
        + "</p>"
    )
    low = min([0.0, *(math.floor(s["low"] * 10) / 10 for s in skills.values() if math.isfinite(s["low"]))])
    head = ("modality", "skill", _axis(low), "loss", "baseline", "predicts", "records", "tokens")
    body = []
    for i, (name, s) in enumerate(skills.items()):
        choice = f"{s['target']}, one of {s['vocabulary']:,}" if s["vocabulary"] else s["target"]
        body.append(
            (
                f'<strong class="c{i % 6}">{escape(name)}</strong>',
                f'<span class="big">{number(s["value"])}</span> <small>{number(s["low"])} to {number(s["high"])}</small>'
                + _masked(s, masks.get(name, {})),
                _bar(s["value"], s["low"], s["high"], low, f"c{i % 6}", name),
                f"{number(s['loss'])} <small>{escape(s['unit'])}</small>",
                f"{number(s['baseline'])} <small>{escape(s['guess'])}</small>",
                escape(choice),
                f"{s['records']:,}",
                f"{s['tokens']:,}",
            )
        )
    return words + table(head, body, "skills stack", raw=True, names=("", "skill", "", *head[3:]))


def _masked(s: Mapping[str, Any], mask: Mapping[str, Any]) -> str:
    """The skill over what shows nothing, where that is not all that was asked."""
    if not mask.get("kept"):
        return ""
    value, low, high = s["masked"]
    return f" <small>masked only {number(value)},</small> <small>{number(low)} to {number(high)}</small>"


def _axis(low: float) -> str:
    texts = (
        f'<text x="{_percent(x, low)}" y="11" text-anchor="{anchor}">{number(x, 1)}</text>' for x, anchor in _ticks_of_bar(low)
    )
    return f'<svg class="axis" role="img" aria-label="scale of the bars">{"".join(texts)}</svg>'


def _ticks_of_bar(low: float) -> list[tuple[float, str]]:
    ticks = [(0.0, "middle" if low else "start"), (0.5, "middle"), (1.0, "end")]
    return [(low, "start"), *ticks] if low < -0.15 else ticks


def _bar(value: float, least: float, most: float, low: float, colour: str, name: str) -> str:
    v, a, b, zero, half = (_percent(max(low, min(1.0, x)), low) for x in (value, least, most, 0.0, 0.5))
    label = escape(f"skill of {name}: {value:.3f}, from {least:.3f} to {most:.3f}")
    return (
        f'<svg class="bar {colour}" role="img" aria-label="{label}">'
        f'<line class="track" x1="0" x2="100%" y1="14" y2="14"/>'
        f'<line class="grid" x1="{half}" x2="{half}" y1="4" y2="24"/>'
        f'<line class="zero" x1="{zero}" x2="{zero}" y1="2" y2="26"/>'
        f'<line class="from0" x1="{zero}" x2="{v}" y1="14" y2="14"/>'
        f'<line class="interval" x1="{a}" x2="{b}" y1="14" y2="14"/>'
        f'<circle cx="{v}" cy="14" r="4.5"/></svg>'
    )


def _percent(value: float, low: float) -> str:
    """Where a skill lies on an axis from ``low`` to 1, with a little room on both sides."""
    return f"{1.5 + 97 * (value - low) / (1 - low):.2f}%"
