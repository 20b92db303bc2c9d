"""What is done to the chosen positions.

Shape suffixes: T packed tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from .draw import Draw
from .tokens import Tokens
from .view import View


class Corruption(ABC):
    """Turns clean tokens and the chosen positions into a View; may change content, length, order and the rule."""

    @abstractmethod
    def __call__(self, tokens: Tokens, hidden_T: Tensor, progress: float, draw: Draw) -> View:
        """The view in which the tokens of ``hidden_T`` are asked."""
