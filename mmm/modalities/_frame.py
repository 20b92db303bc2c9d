"""The special tokens around a text, or around each of two, as a tokenizer puts them.

Shape suffixes: N tokens of this modality.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

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

    def around(self, texts: Sequence[Sequence[int]], words: Sequence[Sequence[int | None]]) -> tuple[list[int], ...]:
        """(id_N, type_N, unit_N) of the texts with their fences.

        Args:
            words: number of the word of each token; the tokens of a word are a unit, and so is every token of a fence.
        """
        ids: list[int] = []
        types: list[int] = []
        units: list[int] = []
        unit = -1
        for number, fence in enumerate(self.fences):
            kind = self.types[max(0, number - 1)]
            if number:
                word = words[number - 1]
                for i, w in enumerate(word):
                    unit += i == 0 or w != word[i - 1]
                    units.append(unit)
                ids += texts[number - 1]
            ids += fence
            units += range(unit + 1, unit + 1 + len(fence))
            unit += len(fence)
            types += [kind] * (len(ids) - len(types))
        return ids, types, units


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
