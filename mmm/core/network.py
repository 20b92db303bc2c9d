"""The two nets every method shares: an encoder over kept tokens, a decoder that answers at asked ones.

Shape suffixes: T packed tokens, K kept tokens, N asked tokens, D width, S segments.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from .layout import Layout
from .rule import Rule
from .view import View


@dataclass
class Encoded:
    """What an encoder returns.

    Args:
        x_KD: the last layer.
        layers: outputs of the blocks that were asked for with ``want``, by number (0: what entered the first block).
    """

    x_KD: Tensor
    layers: dict[int, Tensor] = field(default_factory=dict)


class Encoder(nn.Module, ABC):
    """Attributes: ``width`` D; ``depth``, the number of blocks."""

    width: int
    depth: int

    @abstractmethod
    def forward(
        self, x_KD: Tensor, layout_K: Layout, rule: Rule | None = None, time_S: Tensor | None = None, want: Sequence[int] = ()
    ) -> Encoded:
        """Encode the kept tokens. Attention stays inside a segment and obeys ``rule``."""


class Decoder(nn.Module, ABC):
    """Attributes: ``width``, that of its answers; known after ``build``.

    ``by_modality``: names of its parameters that have one row a modality, in the order of ``build``.
    """

    width: int
    by_modality: tuple[str, ...] = ()

    @abstractmethod
    def build(self, width: int, names: Sequence[str]) -> None:
        """Make the parameters for an encoder of this width and a model of these modalities."""

    @abstractmethod
    def forward(self, x_KD: Tensor, view: View) -> Tensor:
        """y_ND at ``view.read_N``."""
