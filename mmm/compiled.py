"""``torch.compile`` for packed batches: what is done to each token alone becomes a graph for any number of tokens.

Attention stays outside the graphs: it has its own kernels, and it alone asks for the lengths of the records, which are
different in every batch. So the graph of a block knows no length: it is made once and serves every block and every batch.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from .core.errors import BadRecipe
from .core.head import Head
from .encoders.transformer import Transformer
from .nn.attention import Attention
from .nn.block import Block

GRAPHS = 64
"""Of one function, at most: one for each width, each head, with and without gradients. The library's own limit is 8, and past
it everything runs plainly."""


def compile_parts(model: nn.Module, **options: Any) -> None:
    """Compile blocks and heads in place; parameters keep their names and values.

    Left as they are: blocks whose attention is another than ``Attention`` (prefix tuning), and those of encoders with relative
    positions. What these do hangs on the lengths in the batch.

    Args:
        options: of ``torch.compile``.
    """
    relative = [part for part in model.modules() if isinstance(part, Transformer) and part.grid is not None]
    plain = {id(block) for encoder in relative for block in encoder.blocks}
    for part in model.modules():
        attentions = [inner for inner in part.modules() if isinstance(inner, Attention)]
        if isinstance(part, Block) and id(part) not in plain and all(type(inner) is Attention for inner in attentions):
            for inner in attentions:
                inner.attend = torch.compiler.disable(inner.attend)
            part.compile(dynamic=True, **options)
        if isinstance(part, Head):
            part.compile(dynamic=True, **options)
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, GRAPHS)


def check_compiler() -> None:
    """Raises BadRecipe where the compiler that ``torch.compile`` writes for is not there."""
    compiler = os.environ.get("CXX") or {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    if shutil.which(shlex.split(compiler)[0]) is None:  # CXX may hold arguments, too
        raise BadRecipe(
            f"trainer.compile: true needs a C++ compiler, and {compiler!r} is not found; install it, name another in the "
            "environment variable CXX, or leave trainer.compile out"
        )


class Compiled(Callback):
    """Compiles a model before it is fitted."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if pl_module.device.type == "cpu":
            check_compiler()
        compile_parts(pl_module.model)  # type: ignore[arg-type]
