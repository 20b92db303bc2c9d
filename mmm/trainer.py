"""The Trainer of a run: Lightning's, and how the run computes."""

from __future__ import annotations

import os
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer as LightningTrainer

from .compiled import Compiled
from .precision import AUTO, TRUE, TrueBfloat16, chosen

Products = Literal["highest", "high", "medium"]
NEVER = {
    "accumulate_grad_batches": "data.max_tokens_per_rank, which splits a step into several passes",
    "gradient_clip_val": "model.optimizer.clip, the largest norm of the whole gradient",
    "gradient_clip_algorithm": "model.optimizer.clip, the largest norm of the whole gradient",
    "limit_train_batches": "trainer.max_steps: the order of the records has no end, and would begin anew with every such epoch",
}
"""Lightning's arguments that need it to take the steps and to end epochs, and what stands for them here."""


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

    Raises:
        ValueError: an argument of ``NEVER``, or a precision that no run can have.
    """

    def __init__(
        self,
        *,
        precision: Any = AUTO,
        float32_matmul_precision: Products = "highest",
        compile: bool = False,
        **kwargs: Any,
    ):
        for key, instead in NEVER.items():
            given = kwargs.get(key)
            if given is not None and (key, given) != ("accumulate_grad_batches", 1):
                raise ValueError(f"trainer.{key} is {given!r}, which cannot work here; give {instead}")
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
