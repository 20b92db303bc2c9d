"""Absolute positions over one to three coordinates.

Shape suffixes: T tokens, C coordinates (always 3; a modality with c of them fills the last c), D width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn


def sinusoidal(position_TC: Tensor, width: int, coordinates: int) -> Tensor:
    """(T, width) fixed sines and cosines, an equal share of the width a coordinate, the last coordinate first.

    One coordinate: Vaswani et al. 2017, section 3.5 (sines, then cosines). Two: the table of MAE, arXiv:2111.06377 (x, then y).
    Channels that are left where width is no multiple of 2 x coordinates stay 0.
    """
    share = width // (2 * coordinates)
    omega = 10000.0 ** -(torch.arange(share, dtype=torch.float64, device=position_TC.device) / share)
    table = torch.cat([_waves(position_TC[:, -c], omega) for c in range(1, coordinates + 1)], dim=1)
    return nn.functional.pad(table, (0, width - table.shape[1]))


def _waves(position_T: Tensor, omega_s: Tensor) -> Tensor:
    """(T, 2s) sines and cosines; on a CPU those of whole numbers once for each number, not once for each token."""
    if position_T.device.type == "cpu" and len(position_T) and not torch.compiler.is_compiling():
        whole_T = position_T.long()
        lowest, highest = (int(end) for end in whole_T.aminmax())
        if lowest >= 0 and highest < len(position_T) and torch.equal(position_T, whole_T.to(position_T.dtype)):
            return _waves_of(torch.arange(highest + 1, device=position_T.device), omega_s)[whole_T]
    return _waves_of(position_T, omega_s)


def _waves_of(position_T: Tensor, omega_s: Tensor) -> Tensor:
    angle_Ts = position_T[:, None].double() * omega_s
    return torch.cat([angle_Ts.sin(), angle_Ts.cos()], dim=1).float()


class LearnedPositions(nn.Module):
    """One learned vector a cell of a grid (BERT: a line of 512; ViT: 14 x 14).

    Args:
        shape: cells a coordinate. width: D.
    """

    def __init__(self, shape: Sequence[int], width: int):
        super().__init__()
        self.shape = tuple(shape)
        self.table = nn.Parameter(torch.empty(math.prod(self.shape), width))
        if not self.table.is_meta:
            nn.init.normal_(self.table, std=0.02)

    def forward(self, position_TC: Tensor, coordinates: int) -> Tensor:
        """(T, D). Raises ValueError where a position lies outside the grid."""
        assert coordinates == len(self.shape)
        cell_T = torch.zeros(position_TC.shape[0], dtype=torch.int64, device=position_TC.device)
        for size, position_T in zip(self.shape, position_TC[:, -coordinates:].T, strict=True):
            if (
                not torch.compiler.is_exporting()  # a graph that is traced has no numbers to look at
                and len(position_T)
                and position_T.device.type == "cpu"
                and not 0 <= int(position_T.min()) <= int(position_T.max()) < size
            ):
                raise ValueError(
                    f"position {int(position_T.max())} lies outside the learned positions {self.shape}: "
                    "make max_length (or size) larger, or choose sinusoidal or rotary positions"
                )
            cell_T = cell_T * size + position_T.long()
        return self.table[cell_T]
