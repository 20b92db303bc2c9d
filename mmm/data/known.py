"""Records in memory with what a vocabulary makes of their strings: made once, four bytes an id."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
import torch

from mmm.core.errors import BadRecord
from mmm.core.modality import Encoded, Record, Tokenizer

from .mixture import Example, samples_of
from .numbered import Numbered
from .tables import parts


class Known(Numbered[Example]):
    """Examples of one modality, their strings as ``Encoded``; what is no string (a pair) is left as it is.

    Args:
        examples: as they were read. name: of the modality. tokenizer: fitted, with an ``encoding``.

    Raises:
        BadRecord: one cannot be encoded.
    """

    def __init__(self, examples: Sequence[Example], name: str, tokenizer: Tokenizer):
        self.examples, self.name = examples, name
        codes, ends = array("i"), array("q", [0])
        for example in examples:
            record = example[name]
            if isinstance(record.raw, str):
                codes.frombytes(codes_of(record, tokenizer).tobytes())
            ends.append(len(codes))
        self._codes, self._ends = np.array(codes, np.int32), np.array(ends, np.int64)

    def __len__(self) -> int:
        return len(self.examples)

    def at(self, i: int) -> Example:
        record = self.examples[i][self.name]
        if not isinstance(record.raw, str):
            return self.examples[i]
        codes = torch.from_numpy(self._codes[self._ends[i] : self._ends[i + 1]])
        return {self.name: replace(record, raw=Encoded(record.raw, codes))}

    @cached_property
    def samples(self) -> torch.Tensor:
        """64-bit names of the examples."""
        return samples_of(self.examples)


def known(examples: Sequence[Example], tokenizers: Mapping[str, Tokenizer]) -> Sequence[Example]:
    """``Known`` where all are of one modality and its tokenizer has an ``encoding``; else the examples."""
    (name, *others) = {name for example in examples for name in example}
    return examples if others or tokenizers[name].encoding is None else Known(examples, name, tokenizers[name])


def length_of(example: Example, tokenizers: Mapping[str, Tokenizer]) -> int:
    """Tokens it makes."""
    return sum(tokenizers[name].length(part) for name, record in example.items() for part in parts(record))


def codes_of(record: Record, tokenizer: Tokenizer) -> np.ndarray:
    """What ``encode`` gives for a record, int32. Raises BadRecord where it cannot be encoded."""
    try:
        return tokenizer.encode(record.raw).to(torch.int32).numpy()  # type: ignore[no-any-return]
    except ValueError as error:
        raise BadRecord(record.path, record.record, str(error)) from error
