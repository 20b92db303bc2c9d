"""Who may attend to whom inside a segment.

Shape suffixes: Q asking tokens, K answering tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from .layout import Layout


class Rule(ABC):
    """A predicate over two layouts; segments are always kept apart besides. None stands for "everyone in the segment".

    ``allowed`` is the meaning of the rule and the reference for every backend; a backend that cannot take a rule raises.
    """

    @abstractmethod
    def allowed(self, query: Layout, key: Layout) -> Tensor:
        """allowed_QK: True where the token of row q may attend to the token of column k."""


class Causal(Rule):
    """A token attends to itself and to what stands before it."""

    def allowed(self, query: Layout, key: Layout) -> Tensor:
        return query.place_T[:, None] >= key.place_T[None]


class Window(Rule):
    """A token attends to at most ``reach`` tokens on either side (ModernBERT, arXiv:2412.13663, section 2.1.2).

    Args:
        reach: tokens on either side; the window is 2 x reach + 1 wide.
    """

    def __init__(self, reach: int):
        if reach < 0:
            raise ValueError(f"Window(reach={reach}): needs a number of tokens >= 0")
        self.reach = reach

    def allowed(self, query: Layout, key: Layout) -> Tensor:
        return (query.place_T[:, None] - key.place_T[None]).abs() <= self.reach


class Both(Rule):
    """A token attends where both rules allow it."""

    def __init__(self, first: Rule, second: Rule):
        self.first, self.second = first, second

    def allowed(self, query: Layout, key: Layout) -> Tensor:
        return self.first.allowed(query, key) & self.second.allowed(query, key)


def dense(layout: Layout, rule: Rule | None = None) -> Tensor:
    """allowed_TT: the whole packed axis as one mask. The reference; its memory grows with the square of the batch."""
    same = layout.segment_T[:, None] == layout.segment_T[None]
    return same if rule is None else same & rule.allowed(layout, layout)


def compose(first: Rule | None, second: Rule | None) -> Rule | None:
    """Both rules at once; None allows everyone."""
    if first is None or second is None:
        return first or second
    return Both(first, second)


__all__ = ["Both", "Causal", "Rule", "Window", "compose", "dense"]
