"""Relative positions on a grid: a learned number for every offset, added to the scaled products of attention.

Shape suffixes: T packed tokens, B segments of one length, n their length, H heads, O offsets.

Paper: BEiT, arXiv:2106.08254, section 2.1; the table: Swin, arXiv:2103.14030, eq. 4. Tokens that stand off the grid (CLS,
registers: a coordinate below 0) have three entries of their own, as in BEiT's code: from them to the grid, from the grid to
them, among themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmm.core.layout import Layout

from .attention import runs


@dataclass
class Grid:
    """Relative positions of a grid of this size.

    Args:
        rows, columns: of the grid; tokens are nowhere further apart.
        shared: one table for all blocks; by default each has its own.
    """

    rows: int
    columns: int
    shared: bool = False

    @property
    def offsets(self) -> int:
        """O: entries of a table."""
        return (2 * self.rows - 1) * (2 * self.columns - 1) + 3

    def places(self, layout: Layout) -> list[Tensor]:
        """Which entry each pair of tokens has: (B, n, n), or (1, n, n) where the segments of a run stand alike.

        One for each of ``runs(layout.lengths)``.
        """
        places, first = [], 0
        for _, count, n in runs(layout.lengths):
            position_BnC = layout.position_TC[first : first + count * n, -2:].unflatten(0, (count, n))
            first += count * n
            # Whole images stand alike: one table look-up for all of them. Asked once a forward pass.
            if count > 1 and not torch.compiler.is_exporting() and torch.equal(position_BnC[1:], position_BnC[:-1]):
                position_BnC = position_BnC[:1]
            places.append(self.entries(position_BnC))
        return places

    def entries(self, position_BnC: Tensor) -> Tensor:
        """entry_Bnn in [0, O) of each pair: row the asking token, column the answering one.

        Raises:
            ValueError: two tokens are further apart than the grid is large.
        """
        y, x = position_BnC.long().unbind(-1)
        off = (y < 0) | (x < 0)
        dy = y[..., :, None] - y[..., None, :] + self.rows - 1
        dx = x[..., :, None] - x[..., None, :] + self.columns - 1
        entry = dy * (2 * self.columns - 1) + dx
        entry = torch.where(off[..., :, None], self.offsets - 3, entry)
        entry = torch.where(off[..., None, :], torch.where(off[..., :, None], self.offsets - 1, self.offsets - 2), entry)
        if not torch.compiler.is_exporting() and position_BnC.device.type == "cpu" and position_BnC.numel():
            far = ~(off[..., :, None] | off[..., None, :])
            far &= (dy < 0) | (dy > 2 * self.rows - 2) | (dx < 0) | (dx > 2 * self.columns - 2)
            if bool(far.any()):
                raise ValueError(
                    f"relative positions know a grid of {self.rows} x {self.columns}; two tokens of a record are further apart"
                )
        return entry


class RelativeBias(nn.Module):
    """One table: a number for every head and offset, 0 at first.

    Args:
        grid: its size. heads: H.
    """

    def __init__(self, grid: Grid, heads: int):
        super().__init__()
        self.grid = grid
        self.table = nn.Parameter(torch.zeros(grid.offsets, heads))

    def forward(self, places: Sequence[Tensor]) -> list[Tensor]:
        """(B, H, n, n) or (1, H, n, n) for each of ``Grid.places``: what ``attention`` adds."""
        return [F.embedding(entry_Bnn, self.table).permute(0, 3, 1, 2) for entry_Bnn in places]

    def dense(self, layout: Layout) -> Tensor:
        """bias_HTT over the whole packed axis; the reference. Means nothing across segments."""
        position_TC = layout.position_TC[:, -2:]
        bias_HTT = self.table.new_zeros(self.table.shape[1], len(layout), len(layout))
        for s in range(layout.segments):
            at_N = (layout.segment_T == s).nonzero()[:, 0]
            own_HNN = self.table[self.grid.entries(position_TC[at_N][None])[0]].permute(2, 0, 1)
            bias_HTT = bias_HTT.index_put((torch.arange(len(bias_HTT))[:, None, None], at_N[:, None], at_N), own_HNN)
        return bias_HTT
