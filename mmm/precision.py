"""The precision a run trains in: ``trainer.precision: auto`` is bfloat16 where the hardware multiplies it, else float32."""

from __future__ import annotations

import logging
from typing import Any

import torch

log = logging.getLogger("mmm")

AUTO, MIXED, FULL = "auto", "bf16-mixed", "32-true"


def chosen(precision: Any, accelerator: Any = "auto") -> Any:
    """What a recipe's ``trainer.precision`` stands for here.

    Args:
        precision: ``auto``, or a precision of the Trainer, which is left as it is; said aloud where it is bfloat16 that this
            CPU would compute in software, ten times slower than float32 and worse.
        accelerator: the recipe's ``trainer.accelerator``.
    """
    if precision == AUTO:
        return MIXED if _multiplies_bfloat16(accelerator) else FULL
    if str(precision).startswith("bf16") and not _multiplies_bfloat16(accelerator):
        log.warning(
            "trainer.precision %s: this machine computes bfloat16 in software, many times slower than float32; "
            "--trainer.precision auto chooses what it is good at",
            precision,
        )
    return precision


def _multiplies_bfloat16(accelerator: Any) -> bool:
    """Whether the device a run would take has instructions for products of bfloat16."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if accelerator not in ("auto", "cpu"):
        return True  # nothing is known of others: the recipe is believed
    # The library has no public word for it; the flag is that of the kernels it would take.
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
