"""The workloads of ``referee.py`` with weights of products in bfloat16 (``trainer.precision: bf16-true``): rows of their own.

    export PYTHONPATH=.:PEERS OMP_NUM_THREADS=1
    python PEERS/run.py bert tools.bench.referee:text tools.bench.pure:text --threads 1 --clock cpu

The optimiser moves float32 copies of these weights, so the losses are the others'.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import peers

from mmm.precision import TrueBfloat16

from .referee import WORKLOADS, Workload


def pure(work: Workload) -> Callable[..., peers.Case]:
    """A workload whose model is rounded before its optimiser is built."""

    def case(dtype: str = "bf16", **options: Any) -> peers.Case:
        if dtype != "bf16":
            raise ValueError(f"dtype {dtype!r}: these rows are in bfloat16")
        return work(dtype=dtype, prepare=TrueBfloat16("cpu").convert_module, **options)

    return case


text, text_50k, protein = (pure(WORKLOADS[name]) for name in ("text", "text_50k", "protein"))
mae_tiny, mae_cifar = pure(WORKLOADS["mae_tiny"]), pure(WORKLOADS["mae_cifar"])
beit, simmim, hubert = (pure(WORKLOADS[name]) for name in ("beit", "simmim", "hubert"))
