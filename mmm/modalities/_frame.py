"""The special tokens around a text, or around each of two, as a tokenizer puts them.

Shape suffixes: N tokens of this modality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import tokenizers


@dataclass(frozen=True)
class Frame:
    """What stands before each text of a record, and after the last.

    Args:
        fences: ids; one tuple more than there are texts.
        types: token type of each text. A fence has that of the text it closes, the first that of the text it opens.
    """

    fences: tuple[tuple[int, ...], ...]
    types: tuple[int, ...]

    def __len__(self) -> int:
        return sum(map(len, self.fences))

    def around(self, texts: Sequence[Tensor]) -> Tensor:
        """id_N of the ids of texts with their fences."""
        return self._between([torch.tensor(fence, dtype=torch.int64) for fence in self.fences], [text.long() for text in texts])

    def inside(self, ids: Sequence[int]) -> slice:
        """Where the ids stand that are not the first fence nor the last."""
        first, last = self.fences[0], self.fences[-1]
        start = len(first) if tuple(ids[: len(first)]) == first else 0
        stop = max(start, len(ids) - len(last))
        return slice(start, stop if tuple(ids[stop:]) == last else len(ids))

    def types_of(self, texts: Sequence[Tensor]) -> Tensor:
        """type_N."""
        fences = [torch.full((len(fence),), self.types[max(0, i - 1)]) for i, fence in enumerate(self.fences)]
        return self._between(fences, [torch.full((len(text),), kind) for text, kind in zip(texts, self.types, strict=True)])

    def units_of(self, words: Sequence[Tensor]) -> Tensor:
        """unit_N: the tokens of a word are a unit, and so is every token of a fence.

        Args:
            words: number of the word of each token of each text.
        """
        begun = [torch.cat([word.new_ones(1, dtype=torch.bool)[: len(word)], word[1:] != word[:-1]]) for word in words]
        fences = [torch.ones(len(fence), dtype=torch.bool) for fence in self.fences]
        return self._between(fences, begun).cumsum(0) - 1

    @staticmethod
    def _between(fences: Sequence[Tensor], texts: Sequence[Tensor]) -> Tensor:
        first, *others = fences
        return torch.cat([first, *(part for pair in zip(texts, others, strict=True) for part in pair)])


def frames(model: tokenizers.Tokenizer, cls: int | None, sep: int | None) -> tuple[Frame, Frame]:
    """The frame of one text and of two, by what the tokenizer adds to them.

    Args:
        cls, sep: what stands before the first text and after each where the tokenizer adds nothing; None: nothing.

    Raises:
        ValueError: it makes no token of anything.
    """
    words = (w for w in ("a", *model.get_vocab()) if len(model.encode(w, add_special_tokens=False)))
    word = next(words, None)
    if word is None:
        raise ValueError("the tokenizer makes no token of any of its own words")
    return _frame(model, [word], cls, sep), _frame(model, [word, word], cls, sep)


def _frame(model: tokenizers.Tokenizer, texts: list[str], cls: int | None, sep: int | None) -> Frame:
    second = texts[1] if len(texts) > 1 else None
    made, bare = (model.encode(texts[0], second, add_special_tokens=special) for special in (True, False))
    if len(made) == len(bare):
        after = () if sep is None else (sep,)
        return Frame((() if cls is None else (cls,), *(after for _ in texts)), tuple(range(len(texts))))
    fences: list[list[int]] = [[]]
    types: list[int] = []
    for i, text, kind in zip(made.ids, made.sequence_ids, made.type_ids, strict=True):
        if text is None:
            fences[-1].append(i)
        elif text == len(types):  # its first token
            types.append(kind)
            fences.append([])
    return Frame(tuple(map(tuple, fences)), tuple(types))
