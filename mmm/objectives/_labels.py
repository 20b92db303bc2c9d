"""What a record's label says, as something to be predicted: a class, several classes, a number, the better of two.

Shape suffixes: N asked records, V output size.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmm.core.baseline import MeanVector, Unigram
from mmm.core.errors import BadRecord, did_you_mean
from mmm.core.modality import Assets, Record
from mmm.core.target import Baseline, Target
from mmm.core.tokens import Tokens


class Label(Target):
    """The label of a whole record. What the training labels are is learned from them and kept as an asset.

    Args:
        skip: records without a label are passed over; else they are refused.

    Attributes:
        size: 1 until ``fit`` or ``restore``.
        guess: the answer that looks at no record: the commonest class, the mean.
    """

    size = 1
    guess: Tensor

    def __init__(self, skip: bool = False):
        super().__init__()
        self.skip = skip

    def has(self, record: Record) -> bool:
        """Whether there is a label. Raises BadRecord where one is missing that must not be."""
        if record.label is None and not self.skip:
            reason = "has no label; give a table with a column 'label', or labels beside the records"
            raise BadRecord(record.path, record.record, reason)
        return record.label is not None

    def fit(self, records: Sequence[Record]) -> None:
        """Raises ValueError where a label cannot be used, or there is nothing to be learned from them."""
        labelled = [r for r in records if self.has(r)]
        if not labelled:
            raise ValueError(f"no record of {self.name!r} has a label; give a table with a column 'label'")
        self.learn(labelled)

    def truth(self, tokens: Tokens, answer_N: Tensor) -> Tensor:
        """Of the records that these tokens belong to."""
        segments = tokens.layout.segment_T[answer_N].tolist()
        truths = [self.read(tokens.aux["example"][s][self.name]) for s in segments]
        return torch.stack(truths).to(answer_N.device) if truths else self.none().to(answer_N.device)

    def none(self) -> Tensor:
        """No truth, in the right form."""
        return torch.zeros(0, dtype=torch.int64)

    def learn(self, records: Sequence[Record]) -> None:
        """Learn what labels there are."""

    def read(self, record: Record) -> Tensor:
        """The truth of one record. Raises BadRecord where its label is none that was learned."""
        raise NotImplementedError

    def answer(self, output_NV: Tensor) -> Tensor:
        """The best answers of a head's outputs, of the truths' form but in the label's own unit."""
        raise NotImplementedError

    def vote(self, truth_NK: Tensor) -> Tensor:
        """output_NV of the truths of the K nearest records of each."""
        raise NotImplementedError

    def own(self, truth: Tensor) -> Tensor:
        """A truth in the label's own unit."""
        return truth

    def words(self, answer: Tensor) -> str:
        """One answer as the user writes labels."""
        raise NotImplementedError

    def score(self, output_NV: Tensor) -> list[float | None]:
        """How sure each answer is: a probability where there is one."""
        return [None] * len(output_NV)


class Classes(Label):
    """One of the classes that the training labels name, in order: cross-entropy.

    Args:
        skip: see ``Label``. names: the classes, where they are known beforehand.
    """

    unit = "nats a record"

    def __init__(self, skip: bool = False, names: Sequence[str] = ()):
        super().__init__(skip)
        self.fixed = tuple(names)
        self._set(list(names), [0] * len(names))

    def _set(self, names: list[str], counts: list[int]) -> None:
        self.names, self.counts, self.size = names, counts, max(1, len(names))
        self.number = {name: i for i, name in enumerate(names)}
        self.guess = torch.tensor(max(range(len(names)), key=lambda i: counts[i], default=0))

    def split(self, record: Record) -> list[str]:
        """The classes a label names. Raises BadRecord where it names none."""
        return _named(record, [record.label])

    def learn(self, records: Sequence[Record]) -> None:
        counts = Counter(name for r in records for name in self.split(r))
        names = list(self.fixed) or sorted(counts, key=_in_order)
        if len(names) < 2:
            one = repr(names[0]) if names else "of no class"
            raise ValueError(f"all training labels of {self.name!r} are {one}: one class alone cannot be learned")
        self._set(names, [counts[name] for name in names])

    def assets(self) -> Assets:
        return {"labels.json": json.dumps({"names": self.names, "counts": self.counts}, ensure_ascii=False).encode()}

    def restore(self, assets: Assets) -> None:
        kept = json.loads(assets["labels.json"])
        self._set(kept["names"], kept["counts"])

    def read(self, record: Record) -> Tensor:
        return torch.tensor(self.numbers(record)[0])

    def numbers(self, record: Record) -> list[int]:
        """Numbers of the classes that a label names. Raises BadRecord for one that no training record has."""
        for name in (found := self.split(record)):
            if name not in self.number:
                known = "no class of the verbalizer" if self.fixed else "in no training record"
                reason = f"its label {name!r} is {known}. {did_you_mean(name, self.names)}"
                raise BadRecord(record.path, record.record, reason)
        return [self.number[name] for name in found]

    def loss(self, output_NV: Tensor, truth_N: Tensor) -> Tensor:
        return F.cross_entropy(output_NV.float(), truth_N, reduction="none")

    def context_free(self, truths: Iterable[Tensor]) -> Baseline:
        return Unigram(truths, self.size)

    def answer(self, output_NV: Tensor) -> Tensor:
        return output_NV.argmax(-1)

    def vote(self, truth_NK: Tensor) -> Tensor:
        share_NV = F.one_hot(truth_NK, self.size).float().mean(1)
        return share_NV.clamp(min=1e-6).log()

    def words(self, answer: Tensor) -> str:
        return self.names[int(answer)]

    def score(self, output_NV: Tensor) -> list[float | None]:
        return output_NV.float().softmax(-1).amax(-1).tolist()


class ClassSet(Classes):
    """Any number of classes, parted by ``|``: binary cross-entropy, the mean over the classes."""

    unit = "nats a class"

    def _set(self, names: list[str], counts: list[int]) -> None:
        super()._set(names, counts)
        self.guess = torch.zeros(len(names), dtype=torch.int64)
        if sum(counts):  # the commonest class alone: where all are rare, no class at all would score nothing
            self.guess[max(range(len(names)), key=lambda i: counts[i])] = 1

    def split(self, record: Record) -> list[str]:
        return _named(record, record.label if isinstance(record.label, list) else str(record.label).split("|"))

    def none(self) -> Tensor:
        return torch.zeros(0, self.size, dtype=torch.int64)

    def read(self, record: Record) -> Tensor:
        return torch.zeros(self.size, dtype=torch.int64).index_fill(0, torch.tensor(self.numbers(record), dtype=torch.int64), 1)

    def loss(self, output_NV: Tensor, truth_N: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(output_NV.float(), truth_N.float(), reduction="none").mean(-1)

    def context_free(self, truths: Iterable[Tensor]) -> Baseline:
        return _Frequencies(truths)

    def answer(self, output_NV: Tensor) -> Tensor:
        return (output_NV > 0).long()

    def vote(self, truth_NK: Tensor) -> Tensor:
        return truth_NK.float().mean(1) - 0.5

    def words(self, answer: Tensor) -> str:
        return "|".join(name for name, there in zip(self.names, answer.tolist(), strict=True) if there)

    def score(self, output_NV: Tensor) -> list[float | None]:
        return [None] * len(output_NV)


class Values(Label):
    """A number: squared error, in deviations of the training labels from their mean."""

    unit = "squared deviations"

    def __init__(self, skip: bool = False):
        super().__init__(skip)
        self._set(0.0, 1.0)

    def _set(self, mean: float, std: float) -> None:
        self.mean, self.std, self.guess = mean, std, torch.tensor(mean, dtype=torch.float64)

    def number(self, record: Record) -> float:
        """The label. Raises BadRecord where it is no number."""
        try:
            number = float(record.label)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise BadRecord(record.path, record.record, f"its label {record.label!r} is no number, but numbers are learned")
        return number

    def learn(self, records: Sequence[Record]) -> None:
        values = torch.tensor([self.number(r) for r in records], dtype=torch.float64)
        if values.min() == values.max():
            raise ValueError(f"all training labels of {self.name!r} are {float(values[0])}: there is nothing to be learned")
        self._set(float(values.mean()), float(values.std(correction=0)))

    def assets(self) -> Assets:
        return {"values.json": json.dumps({"mean": self.mean, "std": self.std}).encode()}

    def restore(self, assets: Assets) -> None:
        self._set(**json.loads(assets["values.json"]))

    def none(self) -> Tensor:
        return torch.zeros(0)

    def read(self, record: Record) -> Tensor:
        return torch.tensor((self.number(record) - self.mean) / self.std)

    def loss(self, output_NV: Tensor, truth_N: Tensor) -> Tensor:
        return (output_NV[:, 0].float() - truth_N.float()).square()

    def context_free(self, truths: Iterable[Tensor]) -> Baseline:
        return _Mean(t[:, None] for t in truths)

    def answer(self, output_NV: Tensor) -> Tensor:
        return self.own(output_NV[:, 0])

    def vote(self, truth_NK: Tensor) -> Tensor:
        return truth_NK.mean(1, keepdim=True)

    def own(self, truth: Tensor) -> Tensor:
        return truth.double() * self.std + self.mean

    def words(self, answer: Tensor) -> str:
        return f"{float(answer):.6g}"


class Better(Label):
    """Which of a pair's two records is the better one, of the difference of their scores.

    The label is ``record`` or ``1`` for the first, ``record2``, ``2`` or ``0`` for the second.

    Args:
        skip: see ``Label``. margin: the hinge of this margin; the logistic loss where it is None.
    """

    unit = "loss a pair"

    def __init__(self, skip: bool = False, margin: float | None = None):
        super().__init__(skip)
        self.margin, self.guess = margin, torch.tensor(1)

    def learn(self, records: Sequence[Record]) -> None:
        first = sum(int(self.read(r)) for r in records)
        self.guess = torch.tensor(int(2 * first >= len(records)))

    def assets(self) -> Assets:
        return {"better.json": json.dumps({"guess": int(self.guess)}).encode()}

    def restore(self, assets: Assets) -> None:
        self.guess = torch.tensor(json.loads(assets["better.json"])["guess"])

    def read(self, record: Record) -> Tensor:
        meaning = _BETTER.get(str(record.label).strip())
        if meaning is None:
            reason = f"its label {record.label!r} names no side; write record (or 1), or record2 (or 2), whichever is better"
            raise BadRecord(record.path, record.record, reason)
        return torch.tensor(meaning)

    def loss(self, output_NV: Tensor, truth_N: Tensor) -> Tensor:
        lead_N = output_NV[:, 0].float() * (2 * truth_N - 1)
        return F.softplus(-lead_N) if self.margin is None else F.relu(self.margin - lead_N)

    def context_free(self, truths: Iterable[Tensor]) -> Baseline:
        return Unigram(truths, 2)

    def answer(self, output_NV: Tensor) -> Tensor:
        return (output_NV[:, 0] > 0).long()

    def words(self, answer: Tensor) -> str:
        return "record" if int(answer) else "record2"

    def score(self, output_NV: Tensor) -> list[float | None]:
        return output_NV[:, 0].tolist()


_BETTER = {"record": 1, "1": 1, "record2": 0, "2": 0, "0": 0}


class _Frequencies(Baseline):
    """Each class at its add-one frequency among the training records."""

    description = "frequencies of the training labels"

    def __init__(self, truths: Iterable[Tensor]):
        truth_NV = torch.cat([t.cpu().double() for t in truths])
        self.rate_V = (truth_NV.sum(0) + 1) / (len(truth_NV) + 2)

    def loss(self, truth_N: Tensor) -> Tensor:
        rate_NV = self.rate_V.expand(len(truth_N), -1)
        return F.binary_cross_entropy(rate_NV, truth_N.cpu().double(), reduction="none").mean(-1)


class _Mean(MeanVector):
    """The mean of the training labels."""

    def loss(self, truth_N: Tensor) -> Tensor:
        return super().loss(truth_N[:, None])


def _named(record: Record, names: Sequence[Any]) -> list[str]:
    """Names of classes, without the spaces around them."""
    found = [str(name).strip() for name in names]
    if not all(found):
        raise BadRecord(record.path, record.record, f"its label {record.label!r} names an empty class")
    return found


def _in_order(name: str) -> tuple[int, Any]:
    """Whole numbers by their size, then words by their letters."""
    return (0, int(name)) if name.isdecimal() else (1, name)
