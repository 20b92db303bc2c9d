"""``torch.compile`` for packed batches: what is done to each token alone becomes a graph for any number of tokens.

Attention stays outside the graphs: it has its own kernels, and it alone asks for the lengths of the records, which are
different in every batch. So the graph of a block knows no length: it is made once and serves every block and every batch.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from .core.head import Head
from .nn.attention import Attention
from .nn.block import Block

GRAPHS_A_HEAD = 4
"""Its own width, with and without gradients, and one row alone."""


def compile_parts(model: nn.Module, **options: Any) -> None:
    """Compile blocks and heads in place; parameters keep their names and values.

    Args:
        options: of ``torch.compile``.
    """
    heads = 0
    for part in model.modules():
        if isinstance(part, Attention):
            part.attend = torch.compiler.disable(part.attend)
        if isinstance(part, (Block, Head)):
            part.compile(dynamic=True, **options)
            heads += isinstance(part, Head)
    # The library counts the graphs of all heads together, and runs plainly what would be one too many.
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, GRAPHS_A_HEAD * heads)


class Compiled(Callback):
    """Compiles a model before it is fitted."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        compile_parts(pl_module.model)  # type: ignore[arg-type]
