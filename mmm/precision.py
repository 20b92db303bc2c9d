"""The precision a run trains in: ``trainer.precision: auto`` is bfloat16 where the hardware multiplies it, else float32;
``bf16-true`` keeps the weights of products in bfloat16, too."""

from __future__ import annotations

import logging
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.plugins import MixedPrecision
from torch import nn

from .core.master import round_weight

log = logging.getLogger("mmm")

GPUS = ("auto", "gpu", "cuda")
"""Accelerators that are a GPU where there is one."""
AUTO, MIXED, TRUE, FULL = "auto", "bf16-mixed", "bf16-true", "32-true"
WHOLE = ("64-true", "64", 64, "16-true")
"""Lightning's that turn all floats of a batch into others, which ours do not follow."""


def chosen(precision: Any, accelerator: Any = "auto") -> Any:
    """What a recipe's ``trainer.precision`` stands for here.

    Args:
        precision: ``auto``, or a precision of the Trainer, which is left as it is; said aloud where it is bfloat16 that this
            CPU would compute in software, ten times slower than float32 and worse.
        accelerator: the recipe's ``trainer.accelerator``.

    Raises:
        ValueError: a precision of the Trainer that no run can have: all in float64 or in float16.
    """
    if precision in WHOLE:
        raise ValueError(f"trainer.precision {precision} does not work here; choose {AUTO}, {MIXED}, {TRUE} or {FULL}")
    if precision == AUTO:
        return MIXED if _multiplies_bfloat16(accelerator) else FULL
    if str(precision).startswith("bf16") and not _multiplies_bfloat16(accelerator):
        log.warning(
            "trainer.precision %s: this machine computes bfloat16 in software, many times slower than float32; "
            "--trainer.precision auto chooses what it is good at",
            precision,
        )
    return precision


class TrueBfloat16(MixedPrecision):
    """Mixed precision whose products keep their weights in bfloat16, too: no cast at every use, and gradients of half the size.
    All else stays float32: embeddings, whose rows sum the gradients of many tokens, norms, biases. The optimiser moves float32
    copies of the weights (``mmm/core/master.py``).

    Args:
        accelerator: of the Trainer.

    Raises:
        ValueError: it is neither a CPU nor a CUDA GPU.
    """

    def __init__(self, accelerator: Any = "auto"):
        metal = accelerator in GPUS and torch.backends.mps.is_available()
        if metal or accelerator not in (*GPUS, "cpu"):
            raise ValueError(f"trainer.precision {TRUE} is for CPUs and CUDA GPUs, not for {'mps' if metal else accelerator}")
        super().__init__(MIXED, "cuda" if accelerator in GPUS and torch.cuda.is_available() else "cpu")
        self.precision = TRUE  # type: ignore[assignment]

    def convert_module(self, module: LightningModule) -> LightningModule:
        tied = {id(part.weight) for part in module.modules() if isinstance(part, nn.Embedding)}
        for part in module.modules():
            if isinstance(part, nn.Linear) and id(part.weight) not in tied:
                round_weight(part.weight)
        return module

    def autocast_context_manager(self) -> torch.autocast:
        return torch.autocast(self.device, dtype=torch.bfloat16, cache_enabled=False)


def _multiplies_bfloat16(accelerator: Any) -> bool:
    """Whether the device a run would take has instructions for products of bfloat16."""
    if accelerator in GPUS and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if accelerator not in ("auto", "cpu"):
        return True  # nothing is known of others: the recipe is believed
    # The library has no public word for it; the flag is that of the kernels it would take.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
