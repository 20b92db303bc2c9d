"""A foreign architecture: its configuration as a recipe of ours, its parameters under our names, and back.

Shape suffixes: N tokens of a record, D width, V output size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmm.core.modality import Assets
from mmm.core.tokens import Piece

from .links import Link


class Misfit(ValueError):
    """A model of ours that a foreign architecture cannot hold; the message says which part of it."""


@dataclass
class Original:
    """A foreign model as its own library loads it.

    Args:
        source: what the user named. library: transformers, timm, fair-esm, torchaudio, fairseq.
        config: its configuration as plain values. model: the library's own module, in evaluation mode, float32.
        folder: where its other files lie (tokenizer, processor); None where there is none.
        headed: whether its masked-modelling head was in the checkpoint; without, ``model`` is the bare encoder.
        skipped: parameters of the checkpoint that the library did not use.
    """

    source: str
    library: str
    config: dict[str, Any]
    model: nn.Module
    folder: Path | None = None
    headed: bool = True
    skipped: list[str] = field(default_factory=list)


class Architecture(ABC):
    """One family of published models. A file of ``mmm.interop`` each; found by scanning.

    Attributes:
        writes: the library of the models that ``export`` makes.
    """

    writes: str = "transformers"

    @abstractmethod
    def reads(self, original: Original) -> bool:
        """Whether this is the one for a loaded foreign model."""

    @abstractmethod
    def model(self, original: Original) -> dict[str, Any]:
        """The ``model`` section of our recipe, with bare class names.

        Raises:
            ValueError: where a switch of the configuration has no counterpart here; names it.
        """

    @abstractmethod
    def assets(self, original: Original) -> dict[str, Assets]:
        """What the fitted parts are restored from, by address ("modalities/text"): vocabulary, statistics, processor.

        Raises:
            ValueError: where a file that is needed (a tokenizer) is missing; names it.
        """

    def notes(self, original: Original) -> list[str]:
        """What is not taken over though the configuration names it (a dropout that has no place here), for people."""
        return []

    @abstractmethod
    def links(self, config: Mapping[str, Any], names: Set[str]) -> list[Link]:
        """Every parameter of theirs that has one of ours.

        Args:
            config: theirs. names: of the parameters that theirs has (heads may be missing, prefixes differ).
        """

    @abstractmethod
    def pieces(self, training: Any) -> list[Piece]:
        """A probe: records of several lengths as our tokenizer would make them, some with masks in them."""

    @abstractmethod
    def ask(self, model: nn.Module, piece: Piece) -> tuple[Tensor, Tensor | None]:
        """(hidden_ND, logits_NV) that the foreign model gives for one piece; None where it has no head."""

    def export(self, training: Any) -> Original:
        """A foreign model, with untouched weights, that fits one of ours; the caller fills the weights in by ``links``.

        Raises:
            Misfit: where it does not fit; says why.
        """
        raise Misfit(f"{type(self).__name__} cannot be written, only read")

    def save_files(self, training: Any, folder: Path) -> None:
        """Write what the library needs beside weights and configuration: tokenizer or processor files."""
