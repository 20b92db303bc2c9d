"""Where every packed token stands.

Shape suffixes: T packed tokens, K some of them, S segments, C coordinates (always 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

COORDINATES = 3


class Run(NamedTuple):
    """One piece of one modality on the packed axis: ``rows`` content rows that make ``tokens`` tokens of ``segment``."""

    segment: int
    rows: int
    tokens: int


@dataclass(frozen=True)
class Layout:
    """The packed axis: no batch axis and no padding. Tokens of a segment are neighbours; attention stays inside a segment.

    Args:
        modality_T: number of the token's modality, in the model's order.
        position_TC: float coordinates. A modality with c coordinates fills the last c (the others repeat or are 0).
        segment_T: number of the token's segment, never decreasing.
        unit_T: atomic unit (word, frame, residue): tokens of one unit are hidden together. Unique in the batch.
        maskable_T: False for specials (CLS, separators, registers).
        sample_S, epoch_S, part_S: the record's name, the pass over the data, the part of the record.
        group_S: segments of one group came from one record (pairs, crops).
        lengths: tokens a segment, on the host.
        runs: the pieces of one modality; filled only where a layout is that of one modality (see ``Tokens.part``).
    """

    modality_T: Tensor
    position_TC: Tensor
    segment_T: Tensor
    unit_T: Tensor
    maskable_T: Tensor
    sample_S: Tensor
    epoch_S: Tensor
    part_S: Tensor
    group_S: Tensor
    lengths: tuple[int, ...]
    runs: tuple[Run, ...] = ()

    def __len__(self) -> int:
        return self.segment_T.shape[0]

    @property
    def segments(self) -> int:
        return len(self.lengths)

    @cached_property
    def start_S(self) -> Tensor:
        """First packed token of each segment."""
        length_S = torch.tensor(self.lengths, dtype=torch.int64, device=self.segment_T.device)
        return length_S.cumsum(0) - length_S

    @cached_property
    def place_T(self) -> Tensor:
        """Number of the token inside its segment."""
        return torch.arange(len(self), device=self.segment_T.device) - self.start_S[self.segment_T]

    def select(self, index_K: Tensor, runs: tuple[Run, ...] = ()) -> Layout:
        """The layout of some tokens, in packed order. Segments keep their numbers, also those left empty.

        Call it on the host: the new lengths are counted there.
        """
        segment_K = self.segment_T[index_K]
        lengths = torch.bincount(segment_K, minlength=self.segments).tolist()
        return replace(
            self,
            modality_T=self.modality_T[index_K],
            position_TC=self.position_TC[index_K],
            segment_T=segment_K,
            unit_T=self.unit_T[index_K],
            maskable_T=self.maskable_T[index_K],
            lengths=tuple(lengths),
            runs=runs,
        )

    def cut(self, s: int) -> Layout:
        """Segment ``s`` alone, as a slice; for rules, which ask about one segment at a time."""
        first = sum(self.lengths[:s])
        at = slice(first, first + self.lengths[s])
        fields: dict[str, Any] = {f: getattr(self, f)[at] for f in ("modality_T", "position_TC", "unit_T", "maskable_T")}
        names: dict[str, Any] = {f: getattr(self, f)[s : s + 1] for f in ("sample_S", "epoch_S", "part_S", "group_S")}
        segment_T = torch.zeros_like(self.segment_T[at])
        return replace(replace(self, **fields, **names), segment_T=segment_T, lengths=(self.lengths[s],), runs=())

    def to(self, device: torch.device | str) -> Layout:
        """The same layout with its tensors on ``device``."""
        fields: dict[str, Any] = {f: getattr(self, f) for f in Layout.__dataclass_fields__}
        moved: dict[str, Any] = {f: v.to(device, non_blocking=True) for f, v in fields.items() if isinstance(v, Tensor)}
        return replace(self, **moved)


def lengths_to_segments(lengths: Sequence[int]) -> Tensor:
    """segment_T of packed segments with these lengths."""
    return torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths, dtype=torch.int64))
