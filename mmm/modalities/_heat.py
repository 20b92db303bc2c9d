"""Spectrograms as pictures.

Shape suffixes: F frames, M mel bands, H x W pixels.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmm.nn.spectral import DECIBEL

_COLOURS = torch.tensor([[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]]) / 255
"""From quiet to loud: black, violet, red, orange, pale yellow."""


def heat(energy_FM: Tensor, loudest: Tensor, hidden: Tensor | None = None) -> Tensor:
    """pixels_HW3 of natural logarithms; what is ``hidden``, frames (F,) or places (F, M), is grey."""
    depth_FM = (1 - (loudest - energy_FM) * (DECIBEL / 80)).clamp(0, 1).cpu()
    place_FM = depth_FM * (len(_COLOURS) - 1)
    below_FM = place_FM.long().clamp(max=len(_COLOURS) - 2)
    pixels = torch.lerp(_COLOURS[below_FM], _COLOURS[below_FM + 1], (place_FM - below_FM)[..., None])
    if hidden is not None:
        pixels[hidden.cpu()] = 0.5
    return pixels.transpose(0, 1).flip(0)
