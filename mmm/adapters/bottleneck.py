"""Small nets put into every block.

Shape suffixes: T packed tokens, D width, F width of the bottleneck.
"""

from __future__ import annotations

from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from mmm.core.adapter import Adapter, freeze_body
from mmm.core.model import Model
from mmm.nn.block import Block

from ._body import stack


class Bottleneck(Adapter):
    """Bottleneck adapters: y_TD becomes y_TD + up(GELU(down(y_TD))) with down (F, D) and up (D, F).

    The up-projection begins at 0, so the first step starts from the pretrained model exactly. The body is frozen.

    Paper: Houlsby et al. 2019, arXiv:1902.00751; Pfeiffer et al. 2020, "AdapterFusion", arXiv:2005.00247; the placements as
    He et al. 2021 put them, arXiv:2110.04366, section 2.2.

    Args:
        size: F, the width of the bottleneck.
        placement: "houlsby" puts one after attention and one after the MLP, each before its residual sum; "pfeiffer" puts
            one after each block, half as many.
    """

    def __init__(self, size: int = 64, placement: Literal["houlsby", "pfeiffer"] = "houlsby"):
        super().__init__()
        if size < 1:
            raise ValueError(f"Bottleneck(size={size}): needs a width of 1 or more")
        if placement not in ("houlsby", "pfeiffer"):
            raise ValueError(f"Bottleneck(placement={placement!r}): choose houlsby or pfeiffer")
        self.size, self.placement = size, placement

    def adapt(self, model: Model) -> None:
        """Raises ValueError where the encoder has no blocks that it could be put into."""
        freeze_body(model)
        width = model.encoder.width
        if self.placement == "pfeiffer":
            for block in stack(model.encoder):  # type: ignore[arg-type]
                _put_after(block, width, self.size)
            return
        blocks = [module for module in model.encoder.modules() if isinstance(module, Block)]
        if not blocks:
            raise ValueError(
                f"Bottleneck(placement='houlsby'): {type(model.encoder).__name__} is not made of mmm.nn.block.Block, "
                "so its branches are unknown; choose placement: pfeiffer"
            )
        for block in blocks:
            _put_after(block.attention, width, self.size)
            _put_after(block.mlp, width, self.size)


def _put_after(module: nn.Module, width: int, size: int) -> None:
    """What the module returns goes through a bottleneck; its own weights keep their names."""
    module.bottleneck = _Net(width, size)
    module.register_forward_hook(_follow)


def _follow(module: nn.Module, inputs: tuple[Any, ...], y_TD: Tensor) -> Tensor:
    return module.bottleneck(y_TD)  # type: ignore[no-any-return, operator]


class _Net(nn.Module):
    """The bottleneck and the way around it."""

    def __init__(self, width: int, size: int):
        super().__init__()
        self.down, self.up = nn.Linear(width, size), nn.Linear(size, width)
        nn.init.normal_(self.down.weight, std=0.02)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, y_TD: Tensor) -> Tensor:
        return y_TD + self.up(F.gelu(self.down(y_TD)))  # type: ignore[no-any-return]
