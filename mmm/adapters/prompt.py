"""Learned tokens before every record.

Shape suffixes: M packed tokens and prompts, P prompts a segment, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mmm.core.adapter import Adapter, freeze_body
from mmm.core.model import Model

from ._around import Prompted
from ._body import stack
from ._longer import put


class Prompt(Adapter):
    """Learned rows (P, D) stand before each segment when it enters the encoder and are gone from what it returns.

    They stand at position -1, one before the first token and off any grid; the tokens keep their own. Under an attention rule
    every token sees them and they see one another alone. Local attention is the encoder's own matter: its local layers show the
    prompts to the tokens near the start of a segment. The body is frozen. The first step differs from the plain model: even
    prompts of 0 would take a share of the attention.

    Paper: Lester et al. 2021, "Prompt tuning", arXiv:2104.08691; deep: Jia et al. 2022, "VPT", arXiv:2203.12119, section 3.2.

    Args:
        tokens: P, learned rows a segment.
        deep: new rows at the input of every block (VPT-deep) instead of the first one's alone.
    """

    def __init__(self, tokens: int = 10, deep: bool = False):
        super().__init__()
        if tokens < 1:
            raise ValueError(f"Prompt(tokens={tokens}): needs 1 or more")
        self.tokens, self.deep = tokens, deep

    def adapt(self, model: Model) -> None:
        """Raises ValueError where ``deep`` is asked of an encoder whose blocks cannot be told apart."""
        freeze_body(model)
        if self.deep:
            for block in stack(model.encoder)[1:]:  # type: ignore[arg-type, union-attr]
                block.prompt_PD = nn.Parameter(torch.empty(self.tokens, model.encoder.width))
                nn.init.normal_(block.prompt_PD, std=0.02)
                block.register_forward_pre_hook(_refresh)
        model.encoder = Prompted(model.encoder, self.tokens)


def _refresh(block: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """A block finds prompts of its own in the place of those that reach it."""
    x_MD, layout_M, *rest = inputs
    return put(x_MD, block.prompt_PD, layout_M), layout_M, *rest  # type: ignore[arg-type]
