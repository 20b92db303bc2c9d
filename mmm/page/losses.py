"""Losses over steps, drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from .parts import number

LAST = 0.05
"""Share of the steps that a final training loss is the mean of."""

Curve = Sequence[tuple[int, float, float]]
"""(step, total, count)."""


def charts(facts: Mapping[str, Any], curves: Mapping[str, Curve]) -> str:
    """The section: a chart a term."""
    names = list(facts["skill"])
    baselines = {f"{n}/{s['target']}": s for n, s in facts["skill"].items()}
    drawn = []
    for term, curve in curves.items():
        asked = [row for row in curve if row[2] and math.isfinite(row[1])]
        if not asked:
            continue
        final, skill, name = facts["losses"][term], baselines.get(term), term.split("/")[0]
        numbers = {"training": final["train"], "validation": final["validation"], "guess": skill and skill["baseline"]}
        known = {k: v for k, v in numbers.items() if v is not None and math.isfinite(v)}
        words = " · ".join(f"{k} {number(v)}" for k, v in known.items())
        unit = f" <small>{escape(skill['unit'])}</small>" if skill else ""
        colour = f"c{names.index(name) % 6 if name in names else 0}"
        chart = Chart.of(asked, known.get("validation"), known.get("guess"))
        svg = chart.svg(colour, f"loss {term} over {asked[-1][0]} steps: {words}")
        caption = f"<figcaption><strong>{escape(term)}</strong><br>{escape(words)}{unit}</figcaption>"
        drawn.append(f"<figure>{caption}{svg}</figure>")
    if not drawn:
        return "<p>No losses were kept.</p>"
    words = (
        "<p>Thin: the loss of each step. Thick: its mean over a twenty-fifth of the run. Ring: validation, asked as at the end "
        "of training. Dashes: the guess without context. Training losses in words are means of the last "
        f"{LAST:.0%} of the steps.</p>"
    )
    return words + f'<div class="charts">{"".join(drawn)}</div>'


@dataclass
class Chart:
    """Loss over steps, in a box of 400 x 230: one value a bucket of steps, raw and smoothed."""

    steps: np.ndarray
    raw: np.ndarray
    smooth: np.ndarray
    validation: float | None
    baseline: float | None

    LEFT, RIGHT, TOP, BOTTOM = 46, 392, 8, 196

    @classmethod
    def of(cls, curve: Curve, validation: float | None, baseline: float | None) -> Chart:
        step, total, count = (np.array(column, dtype=np.float64) for column in zip(*curve, strict=True))
        window = max(1, len(step) // 25)
        smooth = _window(total, window) / _window(count, window)
        buckets = np.array_split(np.arange(len(step)), min(300, len(step)))
        raw = [total[b].sum() / count[b].sum() for b in buckets]
        middle = np.array([step[b].mean() for b in buckets])
        return cls(middle, np.array(raw), np.array([smooth[b].mean() for b in buckets]), validation, baseline)

    def svg(self, colour: str, label: str) -> str:
        """The drawing; ``label`` says in words what it shows."""
        extra = [v for v in (self.validation, self.baseline) if v is not None]
        low, high = min(*self.raw, *extra, self.smooth.min()), max(*self.raw, *extra, self.smooth.max())
        log = low > 0 and high / low > 20
        last = max(1.0, float(self.steps[-1]))
        ticks = _log_ticks(low, high) if log else _ticks(low, high)
        low, high = min(low, ticks[0]), max(high, ticks[-1])
        scale = math.log if log else float

        def x(step: float) -> float:
            return self.LEFT + (self.RIGHT - self.LEFT) * step / last

        def y(value: float) -> float:
            share = (scale(value) - scale(low)) / ((scale(high) - scale(low)) or 1.0)
            return self.BOTTOM - (self.BOTTOM - self.TOP) * share

        def path(values: np.ndarray) -> str:
            return " ".join(f"{x(s):.1f},{y(v):.1f}" for s, v in zip(self.steps, values, strict=True))

        curves = {"raw": self.raw, "smooth": self.smooth}
        marks = [f'<polyline class="{kind}" points="{path(values)}"/>' for kind, values in curves.items()]
        if self.baseline is not None:
            at = y(self.baseline)
            marks.append(f'<line class="guess" x1="{self.LEFT}" x2="{self.RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        if self.validation is not None:
            marks.append(f'<circle class="ring" cx="{x(last):.1f}" cy="{y(self.validation):.1f}" r="4.5"/>')
        grid = [
            f'<line class="grid" x1="{self.LEFT}" x2="{self.RIGHT}" y1="{y(t):.1f}" y2="{y(t):.1f}"/>'
            f'<text x="{self.LEFT - 6}" y="{y(t) + 4:.1f}" text-anchor="end">{t:g}</text>'
            for t in ticks
        ]
        for t in _ticks(0.0, last, 4):
            if t <= last:
                anchor = "end" if t > 0.97 * last else "middle"
                grid.append(f'<text x="{x(t):.1f}" y="{self.BOTTOM + 15}" text-anchor="{anchor}">{t:,.0f}</text>')
        axes = (
            f'<text x="{(self.LEFT + self.RIGHT) / 2}" y="{self.BOTTOM + 31}" text-anchor="middle">step</text>'
            f'<text transform="translate(10 {(self.TOP + self.BOTTOM) / 2}) rotate(-90)" text-anchor="middle">'
            f"loss{' (log scale)' if log else ''}</text>"
        )
        inside = "".join([*grid, axes, *marks])
        return f'<svg class="chart {colour}" viewBox="0 0 400 230" role="img" aria-label="{escape(label)}">{inside}</svg>'


def _window(values: np.ndarray, width: int) -> np.ndarray:
    """Sums over ``width`` neighbours, fewer at the ends."""
    sums = np.concatenate([[0.0], values.cumsum()])
    at = np.arange(len(values))
    first, end = np.maximum(0, at - (width - 1) // 2), np.minimum(len(values), at + width // 2 + 1)
    return np.asarray(sums[end] - sums[first])


def _ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that reach from ``low`` or just below to ``high`` or just above."""
    span = (high - low) or abs(high) or 1.0
    size = 10.0 ** math.floor(math.log10(span / about))
    step = next(size * m for m in (1, 2, 5, 10) if span / (size * m) <= about)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    ticks = [m * 10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for m in (1, 2, 5)]
    return [t for t in ticks if low / 2.5 < t < high * 2.5]
