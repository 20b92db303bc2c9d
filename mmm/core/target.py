"""What is predicted, and how far off a prediction is.

Shape suffixes: N asked tokens, V output size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from .modality import Assets, Record, Tokenizer
from .tokens import Tokens


class Target(nn.Module, ABC):
    """One kind of answer. Life: ``bind`` to a modality, ``fit`` once or ``restore``, then ``truth`` and ``loss``.

    Attributes:
        size: width of the head's output; known after ``bind``.
        unit: what the loss is measured in, for people ("nats a token").
        learnable: whether its truth can be told here; a head that an imported model came with may answer what cannot.
    """

    size: int
    unit: str = "loss a token"
    learnable: bool = True
    name: str
    tokenizer: Tokenizer

    def bind(self, name: str, tokenizer: Tokenizer) -> None:
        """Meet the modality: its name in the model and its tokenizer. Overriders set ``size`` here."""
        self.name, self.tokenizer = name, tokenizer

    def fit(self, records: Sequence[Record]) -> None:
        """Learn what truth needs from training records (k-means, a codebook). Nothing by default."""

    def assets(self) -> Assets:
        """What ``fit`` learned and no buffer holds."""
        return {}

    def restore(self, assets: Assets) -> None:
        """Take up what ``fit`` learned."""

    @abstractmethod
    def truth(self, tokens: Tokens, answer_N: Tensor) -> Tensor:
        """truth_N... of the clean tokens at packed places ``answer_N``, all of this target's modality."""

    @abstractmethod
    def loss(self, output_NV: Tensor, truth_N: Tensor) -> Tensor:
        """loss_N, float32: one value an asked token."""

    @abstractmethod
    def context_free(self, truths: Iterable[Tensor]) -> Baseline:
        """The best guess that looks at no context, learned from training truths; skill is measured against it."""


class Baseline(ABC):
    """A context-free guess: add-one unigram, mean patch."""

    description: str

    @abstractmethod
    def loss(self, truth_N: Tensor) -> Tensor:
        """loss_N of the guess, in the target's own measure."""
