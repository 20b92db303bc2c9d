"""A library whose models can be read."""

from __future__ import annotations

from abc import ABC, abstractmethod

from .architecture import Original


class Library(ABC):
    """Where foreign models come from. A file of ``mmm.interop`` each; found by scanning."""

    @abstractmethod
    def claims(self, source: str) -> bool:
        """Whether this source is one of the library's, told without loading it."""

    @abstractmethod
    def open(self, source: str) -> Original:
        """The model as the library loads it; nothing is unpickled and no code of the source is run.

        Raises:
            ValueError: naming the source, what is wrong with it and the likely cause.
        """
