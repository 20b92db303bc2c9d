"""The optimiser and its schedule, as plain numbers of a recipe."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from .master import mastered


@dataclass
class Optimizer(ABC):
    """An optimiser of the library with a linear warm-up and a decay that are functions of the step alone, so a resumed run
    needs no state.

    Args:
        lr: peak learning rate. weight_decay: of matrices; norms, biases and single vectors have none.
        warmup: steps of linear warm-up. decay: how the rate falls after it. final: share of the peak that is left at the end.
        clip: largest norm of the whole gradient; None: no clipping.

    Raises:
        ValueError: a number that would turn steps around, make them nothing, or let the rate grow past its peak.
    """

    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup: int = 0
    decay: Literal["linear", "cosine", "constant"] = "cosine"
    final: float = 0.0
    clip: float | None = 1.0

    def __post_init__(self) -> None:
        for name, sound, expected in (
            ("lr", self.lr >= 0, "a rate of 0 or more"),
            ("weight_decay", self.weight_decay >= 0, "0 or more"),
            ("warmup", self.warmup >= 0, "a number of steps, 0 or more"),
            ("final", 0 <= self.final <= 1, "a share of lr, from 0 to 1"),
            ("clip", self.clip is None or self.clip > 0, "a norm above 0, or null for no clipping"),
        ):
            if not sound:  # as for NaN, of which nothing is true
                raise ValueError(f"model.optimizer.{name} is {getattr(self, name)}; expected {expected}")

    @abstractmethod
    def make(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """The library's optimiser.

        Args:
            groups: of parameters, each with its ``weight_decay``, the ``factor`` on its rate, and whether they are ``hidden``
                matrices: of products inside encoder or decoder.
        """

    def build(
        self,
        parameters: Iterable[nn.Parameter],
        factors: Mapping[nn.Parameter, float] | None = None,
        hidden: Collection[nn.Parameter] = (),
    ) -> torch.optim.Optimizer:
        """The optimiser over every parameter that is trained; those in bfloat16 through float32 copies.

        Args:
            factors: on the learning rate, of single parameters; 1 where none is named. hidden: matrices of products inside
                encoder or decoder.

        Raises:
            ValueError: nothing is trained.
        """
        inside = {id(p) for p in hidden}
        groups: dict[tuple[bool, bool, float], dict[str, Any]] = {}
        for parameter in parameters:
            if parameter.requires_grad:
                is_hidden, decays = id(parameter) in inside, parameter.ndim >= 2
                factor = (factors or {}).get(parameter, 1.0)
                decay = self.weight_decay if decays else 0.0
                group = {"params": [], "weight_decay": decay, "factor": factor, "hidden": is_hidden}
                groups.setdefault((is_hidden, decays, factor), group)["params"].append(parameter)
        if not groups:
            raise ValueError("nothing is trained: every parameter is frozen")
        return mastered([groups[key] for key in sorted(groups, reverse=True)], self.make)

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step number ``step`` (from 0) of ``steps``."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        done = min(1.0, (step - self.warmup) / max(1, steps - self.warmup))
        if self.decay == "constant":
            return self.lr
        left = 1 - done if self.decay == "linear" else (1 + math.cos(math.pi * done)) / 2
        return self.lr * (self.final + (1 - self.final) * left)
