"""Traces as pictures.

Shape suffixes: M samples, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

HEIGHT = 56
"""Pixels of one lead."""
NARROWEST = 560
"""Pixels a picture is wide, at least: samples are spread out, with straight lines between them."""

WHITE, GREY, PALE, BLACK, RED = (1.0, 1.0, 1.0), (0.88, 0.88, 0.9), (0.7, 0.7, 0.72), (0.1, 0.12, 0.16), (0.8, 0.1, 0.1)


@dataclass(frozen=True)
class Trace:
    """One lead to be drawn: lines one over the other, each (sample_M, colour), and the samples that lie on grey."""

    lines: Sequence[tuple[Tensor, tuple[float, float, float]]]
    grey_M: Tensor


def drawn(traces: Sequence[Trace]) -> Tensor:
    """pixels_HW3, the leads one below the other; all lines of a lead share one scale. NaN interrupts a line."""
    return torch.cat([_one(trace) for trace in traces])


def _one(trace: Trace) -> Tensor:
    samples = len(trace.grey_M)
    wide = max(1, -(-NARROWEST // max(1, samples - 1)))
    width = (samples - 1) * wide + 1
    pixels = np.tile(np.array(WHITE, np.float32), (HEIGHT, width, 1))
    grey_W = trace.grey_M.numpy()[(np.arange(width) + wide // 2) // wide]
    pixels[:, grey_W] = GREY
    known = torch.cat([sample_M[sample_M.isfinite()] for sample_M, _ in trace.lines])
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    scale = (HEIGHT - 5) / max(high - low, 1e-6)
    for sample_M, colour in trace.lines:
        place_W = np.interp(np.arange(width), np.arange(samples) * wide, (high - sample_M.numpy()) * scale + 2)
        for w in np.flatnonzero(np.isfinite(place_W)):
            before = place_W[w - 1] if w and np.isfinite(place_W[w - 1]) else place_W[w]
            top, bottom = sorted((round(float(before)), round(float(place_W[w]))))
            pixels[max(top, 0) : bottom + 1, w] = colour
    return torch.from_numpy(pixels)
