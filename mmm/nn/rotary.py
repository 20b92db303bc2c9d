"""Rotary positions over one to three coordinates.

Shape suffixes: T tokens, H heads, d head width, C coordinates.

Paper: RoFormer, arXiv:2104.09864. Halves are rotated against each other, as in GPT-NeoX, ESM-2 and ModernBERT. Several
coordinates share the frequencies in turn (axial, as in Qwen2-VL, arXiv:2409.12191): with two, each has half as many, over
the same range of wavelengths; a text token, whose coordinates are all equal, sees each of those twice.
"""

from __future__ import annotations

import torch
from torch import Tensor


def angles(
    position_TC: Tensor, head: int, coordinates: int, theta: float = 10000.0, half: bool = False
) -> tuple[Tensor, Tensor]:
    """(cos_Td, sin_Td) of each token, float32.

    Args:
        head: width of a head; even. coordinates: how many of the last coordinates turn it. theta: base of the wavelengths.
        half: round the frequencies to half precision, as weights that were trained in it need them.
    """
    pairs = head // 2
    pair = torch.arange(pairs, device=position_TC.device)
    # With several coordinates, neighbouring pairs belong to different ones and each has the whole range of wavelengths.
    step = (pair // coordinates).float() / (pairs / coordinates)
    which = 2 - pair % coordinates
    frequency_h = theta**-step
    if half:
        frequency_h = frequency_h.half().float()
    angle_Th = position_TC[:, which] * frequency_h
    angle_Td = torch.cat([angle_Th, angle_Th], dim=1)
    return angle_Td.cos(), angle_Td.sin()


def rotate(x_THd: Tensor, cos_Td: Tensor, sin_Td: Tensor) -> Tensor:
    """Turn queries or keys by their angles; the dtype of ``x`` is kept."""
    half = x_THd.shape[-1] // 2
    turned = torch.cat([-x_THd[..., half:], x_THd[..., :half]], dim=-1)
    return (x_THd * cos_Td[:, None] + turned * sin_Td[:, None]).to(x_THd.dtype)
