"""Pieces of records, packed: the batch as every masking, corruption, target and model sees it.

Shape suffixes: T packed tokens, R content rows, N tokens of one modality, S segments, C coordinates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .layout import COORDINATES, Layout, Run, lengths_to_segments

if TYPE_CHECKING:
    from .modality import Tokenizer


@dataclass(frozen=True)
class Piece:
    """What a tokenizer makes of one raw value.

    Args:
        content: (R, ...) ids, patches, samples. One row a token, unless the tokenizer says otherwise (``rowwise``).
        positions: (N, c) or (N,) coordinates of the tokens, c <= 3.
        units: (N,) number of the token's atomic unit inside the piece, never decreasing; None: every token is one.
        maskable: (N,) False for specials; None: all True.
        cut: whether a part of the raw value was left out, because it is longer than the modality reads.
    """

    content: Tensor
    positions: Tensor
    units: Tensor | None = None
    maskable: Tensor | None = None
    cut: bool = False

    def __len__(self) -> int:
        return self.positions.shape[0]

    @property
    def bytes(self) -> int:
        """Of its tensors."""
        return sum(x.nbytes for x in (self.content, self.positions, self.units, self.maskable) if x is not None)

    @cached_property
    def position_NC(self) -> Tensor:
        """(N, 3): one coordinate fills all three; two are put behind a 0."""
        return _in_three(self.positions)


@dataclass(frozen=True)
class Sample:
    """One tokenised record: a piece a modality, its name (a 64-bit hash), the pass over the data, and extras (labels, ...)."""

    pieces: Mapping[str, Piece]
    sample: int = 0
    epoch: int = 0
    aux: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """One modality of a batch: its content rows and the layout of its tokens (``layout_N.runs`` tells the pieces)."""

    content_R: Tensor
    layout_N: Layout
    index_N: Tensor


@dataclass(frozen=True)
class Tokens:
    """A packed batch.

    Args:
        content: rows of every modality of the model, in the model's order; zero rows where a modality is absent.
        layout: the packed axis.
        tokenizers: the tokenizer of every modality, for maskings and corruptions that ask it.
        runs: the pieces of every modality in packed order, on the host.
        aux: labels, annotations, cached signals: a list with one entry a segment for each name.
    """

    content: dict[str, Tensor]
    layout: Layout
    tokenizers: Mapping[str, Tokenizer]
    runs: dict[str, tuple[Run, ...]]
    aux: dict[str, list[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.layout)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.content)

    @cached_property
    def index(self) -> dict[str, Tensor]:
        """Packed places of the tokens of each modality, ascending."""
        return {n: (self.layout.modality_T == i).nonzero()[:, 0] for i, n in enumerate(self.content)}

    @cached_property
    def number_T(self) -> Tensor:
        """Number of the token among those of its modality: for rowwise content, its row."""
        number_T = torch.empty_like(self.layout.modality_T)
        for index_N in self.index.values():
            number_T[index_N] = torch.arange(len(index_N), device=index_N.device)
        return number_T

    def part(self, name: str) -> Part:
        """The rows and tokens of one modality."""
        index_N = self.index[name]
        return Part(self.content[name], self.layout.select(index_N, self.runs[name]), index_N)

    def only(self, name: str) -> Tokens:
        """The batch as if it held this modality alone; segments keep their numbers, the other modalities have no rows."""
        part = self.part(name)
        content = {n: c if n == name else c[:0] for n, c in self.content.items()}
        runs = {n: r if n == name else () for n, r in self.runs.items()}
        return replace(self, content=content, layout=part.layout_N, runs=runs)

    def with_content(self, **content: Tensor) -> Tokens:
        """The same tokens with other content of some modalities."""
        return replace(self, content={**self.content, **content})

    def segment(self, s: int) -> Tokens:
        """Segment ``s`` alone."""
        content: dict[str, Tensor] = {}
        runs: dict[str, tuple[Run, ...]] = {}
        for name, rows in self.content.items():
            at, kept = 0, []
            for run in self.runs[name]:
                if run.segment == s:
                    kept.append((at, run))
                at += run.rows
            content[name] = torch.cat([rows[a : a + r.rows] for a, r in kept]) if kept else rows[:0]
            runs[name] = tuple(Run(0, r.rows, r.tokens) for _, r in kept)
        aux = {k: v[s : s + 1] for k, v in self.aux.items()}
        return replace(self, content=content, layout=self.layout.cut(s), runs=runs, aux=aux)

    def to(self, device: torch.device | str) -> Tokens:
        """The same batch with content and layout on ``device``."""
        content = {n: c.to(device, non_blocking=True) for n, c in self.content.items()}
        moved = replace(self, content=content, layout=self.layout.to(device))
        # What was worked out on the host travels along: on a device it would have to wait for the counts.
        moved.__dict__["index"] = {n: i.to(device, non_blocking=True) for n, i in self.index.items()}
        moved.__dict__["number_T"] = self.number_T.to(device, non_blocking=True)
        return moved


def _in_three(positions: Tensor) -> Tensor:
    """position_NC of (N,) or (N, c) coordinates."""
    position = positions.float()
    if position.ndim == 1:
        position = position[:, None]
    if position.shape[1] == 1:
        return position.expand(-1, COORDINATES)
    return torch.nn.functional.pad(position, (COORDINATES - position.shape[1], 0))


def pack(samples: Sequence[Sample], tokenizers: Mapping[str, Tokenizer]) -> Tokens:
    """Pack tokenised records, one segment a record, one piece after the other in the order of ``tokenizers``.

    Segments are sorted by length (stable), so that equal lengths are neighbours and attention runs them as one dense batch.
    """
    names = list(tokenizers)
    for sample in samples:
        for unknown in sample.pieces.keys() - set(names):
            raise ValueError(f"a record holds {unknown!r}, but the model has {', '.join(names)}")
    order = sorted(range(len(samples)), key=lambda i: sum(map(len, samples[i].pieces.values())))
    samples = [samples[i] for i in order]
    content: dict[str, list[Tensor]] = {n: [] for n in names}
    runs: dict[str, list[Run]] = {n: [] for n in names}
    positions: dict[str, list[Tensor]] = {n: [] for n in names}
    modality, sizes, unit, maskable, lengths = [], [], [], [], []
    units = 0
    for s, sample in enumerate(samples):
        length = 0
        for i, name in enumerate(names):
            piece = sample.pieces.get(name)
            if piece is None or len(piece) == 0:
                continue
            n = len(piece)
            content[name].append(piece.content)
            runs[name].append(Run(s, piece.content.shape[0], n))
            positions[name].append(piece.positions if piece.positions.ndim == 2 else piece.positions[:, None])
            modality.append(i)
            sizes.append(n)
            unit.append(torch.arange(units, units + n) if piece.units is None else piece.units + units)
            units += n if piece.units is None else int(piece.units[-1]) + 1
            maskable.append(torch.ones(n, dtype=torch.bool) if piece.maskable is None else piece.maskable)
            length += n
        lengths.append(length)
    none = torch.zeros(0, dtype=torch.int64)
    modality_T = torch.repeat_interleave(torch.tensor([*modality, 0]), torch.tensor([*sizes, 0]))
    position_TC = torch.zeros(len(modality_T), COORDINATES)
    for i, name in enumerate(names):
        if positions[name]:
            position_TC[modality_T == i] = _in_three(torch.cat(positions[name]))
    layout = Layout(
        modality_T=modality_T,
        position_TC=position_TC,
        segment_T=lengths_to_segments(lengths),
        unit_T=torch.cat([none, *unit]),
        maskable_T=torch.cat([none.bool(), *maskable]),
        sample_S=torch.tensor([s.sample for s in samples], dtype=torch.int64),
        epoch_S=torch.tensor([s.epoch for s in samples], dtype=torch.int64),
        part_S=torch.zeros(len(samples), dtype=torch.int64),
        group_S=torch.arange(len(samples)),
        lengths=tuple(lengths),
    )
    return Tokens(
        content={n: torch.cat(c) if c else tokenizers[n].empty() for n, c in content.items()},
        layout=layout,
        tokenizers=dict(tokenizers),
        runs={n: tuple(r) for n, r in runs.items()},
        aux={k: [s.aux.get(k) for s in samples] for k in sorted({k for s in samples for k in s.aux})},
    )
