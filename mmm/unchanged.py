"""Whether two models say the same of the same records, to the last bit.

Shape suffixes: T packed tokens, N asked tokens, V output size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .core.draw import Draw
from .core.tokens import Piece, Sample, Tokens, pack
from .core.training import Training
from .core.view import View
from .data.loaders import VALIDATION_EPOCH, Packer
from .data.mixture import Example, sample_of
from .data.module import Data
from .join import UNASKED
from .skill import scoring

Records = Sequence[Example] | Sequence[Piece]
PROBE = 16
"""Validation records of each modality that are asked."""


@dataclass(frozen=True)
class Compared:
    """What two models said of some records of one modality.

    Args:
        records, numbers: how many were asked, how many outputs compared. equal: whether every bit of them is.
        largest: difference of two of them. what: the output it is one of, or the first that has other bits.
    """

    records: int
    numbers: int
    equal: bool
    largest: float
    what: str


def probes(data: Data, names: Sequence[str]) -> dict[str, list[Example]]:
    """Validation records of each modality, chosen by their keys."""
    draw = Draw(0).stream("probe")
    examples = [e for source in data.sources("validation") for e in source.examples]
    found = {}
    for name in names:
        own = [{name: e[name]} for e in examples if name in e]
        order = draw.bits(torch.tensor([sample_of(e) for e in own], dtype=torch.int64)).argsort().tolist()
        found[name] = [own[i] for i in order[:PROBE]]
    return found


def compare(one: Training, other: Training, name: str, records: Records) -> Compared:
    """Ask two models that have a modality the same: their last layer and every head of it with nothing hidden, then what is
    asked in validation, by the objective of the first.

    Args:
        one, other: built; evaluation mode is put on and taken back. records: of the modality, or their tokens.
    """
    ours, theirs = (_outputs(training, one, name, records) for training in (one, other))
    pairs = {what: (output, theirs.get(what)) for what, output in ours.items()}
    differ = {what: _difference(*pair) for what, pair in pairs.items() if not _same(*pair)}
    what = max(differ, key=lambda w: differ[w]) if differ else ""
    return Compared(len(records), sum(o.numel() for o in ours.values()), not differ, differ.get(what, 0.0), what)


def _same(one: Tensor, other: Tensor | None) -> bool:
    """Whether all bits are equal, those of signed zeros and NaNs too."""
    if other is None or one.shape != other.shape or one.dtype != other.dtype:
        return False
    return torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))


def _difference(one: Tensor, other: Tensor | None) -> float:
    if other is None or one.shape != other.shape:
        return float("inf")
    return float((one.double() - other.double()).abs().max())


def _outputs(training: Training, asking: Training, name: str, records: Records) -> dict[str, Tensor]:
    tokens = _tokens(training, name, records)
    model, objective = training.model, asking.objective
    with scoring(training, Data()):
        view = View.of(tokens, torch.zeros(len(tokens), dtype=torch.bool), answer_N=torch.arange(len(tokens)))
        view = view.to(training.device)
        x_TD = model.encode(view).x_KD
        y_TD = model.decoder(x_TD, view)
        found = {"last layer": x_TD}
        found |= {f"head {address}": head(y_TD) for address, head in model.heads.items() if name in address.split("/")}
        if type(objective).__name__ != UNASKED:
            views = [v.to(training.device) for v in objective.views(tokens, 1.0, asking.draw)]
            for answer in objective.answers(model, tokens.to(training.device), views):
                found[f"masked answers of {answer.head}"] = answer.output_NV
    return found


def _tokens(training: Training, name: str, records: Records) -> Tokens:
    tokenizers = {n: m.tokenizer for n, m in training.modalities.items()}
    if isinstance(records[0], Piece):
        return pack([Sample({name: piece}, i) for i, piece in enumerate(records)], tokenizers)  # type: ignore[dict-item]
    return Packer(tokenizers, training.seed)(records, [VALIDATION_EPOCH] * len(records))  # type: ignore[arg-type]
