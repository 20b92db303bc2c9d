"""Optimisers for weights in bfloat16: what is trained is a float32 copy of each, which the weight then rounds.

Without the copies small steps would be lost: bfloat16 knows three digits, and a weight moves by less than that.

Paper: Mixed Precision Training, arXiv:1710.03740, section 3.1 ("FP32 master copy of weights").
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


def round_weight(weight: nn.Parameter) -> None:
    """Turn a weight into bfloat16. What it was rounded from stays with it until ``mastered`` takes it for its copy: copies that
    began on bfloat16's grid would lose the first steps, which are shorter than half of its distances."""
    exact = weight.data
    weight.data = exact.bfloat16()
    if weight.requires_grad:
        weight.exact = exact  # type: ignore[attr-defined]


def _exact(weight: nn.Parameter) -> Tensor:
    """What a weight was rounded from, where it still is that; else the weight."""
    exact: Tensor | None = weight.__dict__.pop("exact", None)
    if exact is None or not torch.equal(exact.to(weight), weight.detach()):
        return weight.detach().float()
    return exact.to(weight.device)


class Mastered(torch.optim.Optimizer):
    """An optimiser of float32 copies, seen from outside as one of the weights.

    Args:
        inner: the optimiser of the copies.
        pairs: (weight, copy). A parameter that is float32 itself needs none and stands in ``inner`` as it is.
    """

    def __init__(self, inner: torch.optim.Optimizer, pairs: Sequence[tuple[nn.Parameter, Tensor]]):
        self.inner, self.pairs = inner, list(pairs)

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        return self.inner.param_groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        return self.inner.state

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        return self.inner.defaults

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move the copies by the weights' gradients, then round them into the weights. A weight without a gradient stays."""
        loss = closure() if closure is not None else None
        moved = [(weight, copy) for weight, copy in self.pairs if weight.grad is not None]
        for weight, copy in moved:
            copy.grad = weight.grad.float()  # type: ignore[union-attr]
        self.inner.step()
        with torch.no_grad():
            for weight, copy in moved:
                weight.copy_(copy)
                copy.grad = None
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.inner.zero_grad(set_to_none)
        for weight, _ in self.pairs:
            weight.grad = None

    def state_dict(self) -> dict[str, Any]:
        """The inner one's, and the copies."""
        return {"inner": self.inner.state_dict(), "copies": [copy.detach() for _, copy in self.pairs]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what ``state_dict`` gave."""
        self.inner.load_state_dict(state_dict["inner"])
        with torch.no_grad():
            for (_, copy), saved in zip(self.pairs, state_dict["copies"], strict=True):
                copy.copy_(saved)

    def __repr__(self) -> str:
        return f"Mastered({self.inner!r})"


def mastered(
    groups: list[dict[str, Any]], make: Callable[[list[dict[str, Any]]], torch.optim.Optimizer]
) -> torch.optim.Optimizer:
    """The optimiser of these groups; their parameters in bfloat16 are trained through float32 copies.

    Args:
        groups: of parameters, with their settings. make: an optimiser of such groups.
    """
    pairs: list[tuple[nn.Parameter, Tensor]] = []
    for group in groups:
        for i, parameter in enumerate(group["params"]):
            if parameter.dtype == torch.bfloat16:
                copy = nn.Parameter(_exact(parameter))
                pairs.append((parameter, copy))
                group["params"][i] = copy
    inner = make(groups)
    return Mastered(inner, pairs) if pairs else inner
