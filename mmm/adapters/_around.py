"""Encoders around an encoder.

Shape suffixes: K kept tokens, M kept tokens and prompts, P prompts a segment, D width, S segments.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmm.core.layout import Layout
from mmm.core.network import Encoded, Encoder
from mmm.core.rule import Rule

from ._longer import Longer, beside


class Around(Encoder):
    """An encoder inside another one; width and depth are the inner one's."""

    def __init__(self, inner: Encoder):
        super().__init__()
        self.inner = inner
        self.width, self.depth = inner.width, inner.depth


class Prompted(Around):
    """Learned rows before every segment, removed from all that comes out.

    Args:
        inner: the encoder. prompts: P.
    """

    def __init__(self, inner: Encoder, prompts: int):
        super().__init__(inner)
        self.prompt_PD = nn.Parameter(torch.empty(prompts, inner.width))
        nn.init.normal_(self.prompt_PD, std=0.02)

    def forward(
        self, x_KD: Tensor, layout_K: Layout, rule: Rule | None = None, time_S: Tensor | None = None, want: Sequence[int] = ()
    ) -> Encoded:
        longer = Longer.of(layout_K, len(self.prompt_PD))
        x_MD = longer.insert(x_KD, self.prompt_PD)
        encoded = self.inner(x_MD, longer.layout, beside(rule), time_S, want)
        layers = {number: longer.remove(layer_MD) for number, layer_MD in encoded.layers.items()}
        return Encoded(longer.remove(encoded.x_KD), layers)


class Coupling(nn.Module):
    """An additive coupling of the two halves of the width, and its inverse (NICE, arXiv:1410.8516, section 3.2).

    Args:
        width: D. hidden: width of the two nets inside. They begin at 0: the identity.
    """

    def __init__(self, width: int, hidden: int):
        super().__init__()
        first, second = width // 2, width - width // 2
        self.halves = (first, second)
        self.from_second, self.from_first = self._net(second, hidden, first), self._net(first, hidden, second)

    @staticmethod
    def _net(into: int, hidden: int, out: int) -> nn.Sequential:
        down, up = nn.Linear(into, hidden), nn.Linear(hidden, out)
        nn.init.normal_(down.weight, std=0.02)
        for zero in (down.bias, up.weight, up.bias):
            nn.init.zeros_(zero)
        return nn.Sequential(down, nn.ReLU(), up)

    def forward(self, x_KD: Tensor) -> Tensor:
        """y_KD."""
        first, second = x_KD.split(self.halves, dim=-1)
        first = first + self.from_second(second)
        return torch.cat([first, second + self.from_first(first)], dim=-1)

    def inverse(self, y_KD: Tensor) -> Tensor:
        """x_KD, exactly but for rounding."""
        first, second = y_KD.split(self.halves, dim=-1)
        second = second - self.from_first(first)
        return torch.cat([first - self.from_second(second), second], dim=-1)


class Coupled(Around):
    """A coupling before the encoder and its inverse behind it.

    Args:
        inner: the encoder. hidden: width of the nets of the coupling.
    """

    def __init__(self, inner: Encoder, hidden: int):
        super().__init__(inner)
        self.coupling = Coupling(inner.width, hidden)

    def forward(
        self, x_KD: Tensor, layout_K: Layout, rule: Rule | None = None, time_S: Tensor | None = None, want: Sequence[int] = ()
    ) -> Encoded:
        encoded = self.inner(self.coupling(x_KD), layout_K, rule, time_S, want)
        return Encoded(self.coupling.inverse(encoded.x_KD), encoded.layers)
