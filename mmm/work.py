"""How much arithmetic a run does, and what share of the hardware's own speed that is."""

from __future__ import annotations

from time import perf_counter

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

COUNTED = 10
"""The step of this process that is counted; shorter runs say nothing of their pace."""

ATTENTION = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v),
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: lambda grad, q, k, v, *_, **__: (
        sdpa_backward_flop_count(grad, q, k, v)
    ),
}
"""Kernels that the library does not count by itself."""

ON_CPU, ELSEWHERE = 1024, 8192
"""Rows of the square matrices whose product is the peak."""
TRIES, SHORTEST = 5, 0.02
"""Tries, and seconds that each of them takes at least."""


class Work:
    """Counts the floating-point operations of the products of one step, forward and backward.

    Batches have no padding, so nearly all that is done is needed (attention of short records on a CPU has some); the operations
    a token of one step stand for those of all.
    """

    def __init__(self) -> None:
        self._steps = 0
        self._counter: FlopCounterMode | None = None
        self.flops_per_token: float | None = None

    def begin(self) -> None:
        """Before a step."""
        self._steps += 1
        if self._steps == COUNTED:
            self._counter = FlopCounterMode(display=False, custom_mapping=ATTENTION)
            self._counter.__enter__()

    def end(self, tokens: float) -> None:
        """After it. ``tokens``: this process's own."""
        if self._counter is not None:
            self._counter.__exit__(None, None, None)
            if tokens:
                self.flops_per_token = self._counter.get_total_flops() / tokens
            self._counter = None

    def abandon(self) -> None:
        """Where a step failed."""
        self.end(0)


def peak(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second of the library's product of two square matrices: the best of a few tries.

    A measured number, so that "90 % of the peak" means 90 % of what can be had; data sheets promise more.
    """
    size = ON_CPU if device.type == "cpu" else ELSEWHERE
    a = torch.ones(size, size, device=device, dtype=dtype)
    repeats, best = 1, 0.0
    for _ in range(TRIES):
        seconds = _timed(a, repeats)
        best = max(best, 2 * size**3 * repeats / seconds)
        repeats = max(repeats, round(repeats * SHORTEST / seconds))
    return best


def _timed(a: torch.Tensor, repeats: int) -> float:
    _wait(a)
    start = perf_counter()
    for _ in range(repeats):
        torch.mm(a, a)
    _wait(a)
    return perf_counter() - start


def _wait(a: torch.Tensor) -> None:
    if a.device.type != "cpu":
        torch.accelerator.synchronize(a.device)
