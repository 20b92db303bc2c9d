"""A strip as a page: pictures of one long line are nothing to look at.

Shape suffixes: N patches, H height, W width, L lines.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from einops import rearrange
from mmm.core.picture import Raster
from torch import Tensor

PATCHES = 44
"""Of a line on the page."""
SPACE = 4
"""Pixels between lines."""
YELLOW = torch.tensor([1.0, 0.93, 0.65])


def folded(strip: Raster, marked_N: Tensor | None = None) -> Raster:
    """The strip (H, W), square patches side by side, in lines of ``PATCHES``; marked patches stand on yellow."""
    height, length = strip.pixels.shape
    marked_N = torch.zeros(length // height, dtype=torch.bool) if marked_N is None else marked_N.cpu()
    colour_W3 = torch.where(marked_N[:, None], YELLOW, 1.0).repeat_interleave(height, 0)
    pixels_HW3 = strip.pixels[..., None].cpu() * colour_W3
    width = min(PATCHES * height, length)
    pixels_HW3 = torch.nn.functional.pad(pixels_HW3, (0, 0, 0, -pixels_HW3.shape[1] % width), value=1.0)
    line_LHW3 = rearrange(pixels_HW3, "h (l w) c -> l h w c", w=width)
    line_LHW3 = torch.nn.functional.pad(line_LHW3, (0, 0, 0, 0, 0, SPACE), value=1.0)
    return replace(strip, pixels=rearrange(line_LHW3, "l h w c -> (l h) w c"))
