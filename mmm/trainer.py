"""The Trainer of a run: Lightning's, and how the run computes."""

from __future__ import annotations

import os
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer as LightningTrainer

from .compiled import Compiled
from .precision import AUTO, TRUE, TrueBfloat16, chosen

Products = Literal["highest", "high", "medium"]


class Trainer(LightningTrainer):
    """Lightning's Trainer; three of its arguments are ours, all others its own.

    Args:
        precision: ``auto``: bfloat16 where the hardware multiplies it, else float32; ``bf16-true``: weights of products in
            bfloat16, too, with float32 copies in the optimiser; or another of Lightning's.
        float32_matmul_precision: of products of float32 matrices. ``highest``: float32 throughout. ``high`` and ``medium``:
            TF32 on a GPU. On a CPU ``medium`` takes other kernels, which on AMD are faster and as exact; those for AMX
            round to bfloat16. See ``torch.set_float32_matmul_precision``.
        compile: blocks and heads through ``torch.compile``, see ``mmm/compiled.py``. It costs up to a minute at first, so
            it is for long runs, and on a CPU it needs a C++ compiler.
    """

    def __init__(
        self,
        *,
        precision: Any = AUTO,
        float32_matmul_precision: Products = "highest",
        compile: bool = False,
        **kwargs: Any,
    ):
        torch.set_float32_matmul_precision(float32_matmul_precision)
        if not torch.cuda.is_available():  # Lightning has it asked of the driver's library, which every step opens anew
            os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
        if compile:
            kwargs["callbacks"] = [*(kwargs.get("callbacks") or []), Compiled()]
        accelerator = kwargs.get("accelerator", "auto")
        kwargs["precision"] = chosen(precision, accelerator)
        if kwargs["precision"] == TRUE:
            kwargs["plugins"] = [*(kwargs.get("plugins") or []), TrueBfloat16(accelerator)]
            del kwargs["precision"]
        super().__init__(**kwargs)
