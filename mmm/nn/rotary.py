"""Rotary positions over one to three coordinates.

Shape suffixes: T tokens, H heads, d head width, C coordinates.

Paper: RoFormer, arXiv:2104.09864. Halves are rotated against each other, as in GPT-NeoX, ESM-2 and ModernBERT. Several
coordinates share the frequencies in turn (axial, as in Qwen2-VL, arXiv:2409.12191): with two, each has half as many, over
the same range of wavelengths; a text token, whose coordinates are all equal, sees each of those twice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_CACHED = 2**17  # numbers turned at once on a CPU, so that what lies between stays in the cache: 0.5 MiB in float32


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
    """Turn queries or keys by their angles; the dtype of ``x`` is kept. More dimensions may stand for H."""
    shape = (-1, *[1] * (x_THd.dim() - 2), cos_Td.shape[-1])
    return _Rotation.apply(x_THd, cos_Td.reshape(shape), sin_Td.reshape(shape))  # type: ignore[no-any-return, no-untyped-call]


class _Rotation(torch.autograd.Function):
    """The gradient of a rotation is the rotation back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        half = x.shape[-1] // 2
        signed = torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)
        traced = torch.compiler.is_compiling() or torch.compiler.is_exporting()
        if x.device.type != "cpu" or traced:  # a graph knows no number of parts
            return _turned(x, cos, signed)
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        tokens = max(1, _CACHED // x.shape[1:].numel())
        for x_, cos_, signed_, out_ in zip(*(each.split(tokens) for each in (x, cos, signed, out)), strict=True):
            out_.copy_(_turned(x_, cos_, signed_))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _Rotation.apply(grads[0], cos, -sin), None, None  # type: ignore[no-untyped-call]


def _turned(x: Tensor, cos: Tensor, signed: Tensor) -> Tensor:
    exact = x.to(torch.promote_types(x.dtype, cos.dtype))
    return (exact * cos).addcmul_(exact.roll(x.shape[-1] // 2, -1), signed).to(x.dtype)
