"""A sequence whose members are made when they are asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TypeVar, overload

M = TypeVar("M")


class Numbered(Sequence[M]):
    """Members by number, from the end by a negative one, and by slices."""

    @abstractmethod
    def at(self, i: int) -> M:
        """Member ``i``, from 0 to one below the length."""

    @overload
    def __getitem__(self, i: int) -> M: ...
    @overload
    def __getitem__(self, i: slice) -> list[M]: ...
    def __getitem__(self, i: int | slice) -> M | list[M]:
        if isinstance(i, slice):
            return [self.at(j) for j in range(*i.indices(len(self)))]
        if not -len(self) <= i < len(self):
            raise IndexError(f"{i} of {len(self)}")
        return self.at(i % len(self))
