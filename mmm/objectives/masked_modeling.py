"""Hide some tokens, predict them.

Shape suffixes: T packed tokens, N asked tokens, V output size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from mmm.core.corruption import Corruption
from mmm.core.draw import Draw
from mmm.core.errors import did_you_mean
from mmm.core.head import HeadKind, HeadSettings
from mmm.core.masking import Masking
from mmm.core.model import Model, fault_of_name
from mmm.core.objective import Answer, Objective, Term
from mmm.core.target import Target
from mmm.core.tokens import Tokens
from mmm.core.view import View
from mmm.nn.chunked import rowwise


class MaskedModeling(Objective):
    """Masked modelling of any modalities: BERT, MAE, SimMIM, HuBERT and ESM-2 are this objective with other parts.

    Paper: BERT, arXiv:1810.04805, section 3.1 ("masked LM").

    Args:
        masking: which tokens are hidden: one for each modality, or a single one for all.
        corruption: what is done to them.
        targets: what is predicted: one or several for each modality; none (`[]`): it is not asked.
        heads: kind of head for each modality; linear where none is named.
        weights: weight of each modality's terms; 1 where none is named.
    """

    def __init__(
        self,
        masking: Masking | dict[str, Masking],
        corruption: Corruption,
        targets: dict[str, Target | list[Target]],
        heads: dict[str, HeadKind | HeadSettings] | None = None,
        weights: dict[str, float] | None = None,
    ):
        super().__init__()
        self.masking, self.corruption = masking, corruption
        self.kinds: dict[str, HeadKind | HeadSettings] = heads or {}
        self.weights = weights or {}
        for fault in map(fault_of_name, targets):
            if fault:
                raise ValueError(f"MaskedModeling targets: {fault}")
        self.by_modality = nn.ModuleDict(
            {name: nn.ModuleList(t if isinstance(t, list) else [t]) for name, t in targets.items()}
        )
        self.addresses: dict[str, list[str]] = {}
        for name in self.by_modality:
            kinds = [type(t).__name__ for t in self._targets(name)]
            for kind in kinds:
                if kinds.count(kind) > 1:
                    raise ValueError(
                        f"MaskedModeling targets: {name!r} has {kind} twice, which would share one head; give each kind once"
                    )

    def setup(self, model: Model) -> None:
        """Raises ValueError where a part names a modality the model has not, or a target's modality is never hidden."""
        keyed: dict[str, Any] = {"targets": self.by_modality, "heads": self.kinds, "weights": self.weights}
        if isinstance(self.masking, dict):
            keyed["masking"] = self.masking
        for argument, mapping in keyed.items():
            for name in mapping:
                if name not in model.names:
                    raise ValueError(f"MaskedModeling {argument}: no modality {name!r}. {did_you_mean(name, model.names)}")
        for name in model.names:
            if name not in self.by_modality:
                raise ValueError(f"MaskedModeling: modality {name!r} has no target, so it would learn nothing; name one")
            if isinstance(self.masking, dict) and self._targets(name) and name not in self.masking:
                raise ValueError(f"MaskedModeling: modality {name!r} has a target but no masking, so it would never be asked")
        for name in model.names:
            self.addresses[name] = []
            for target in self._targets(name):
                target.bind(name, model.modalities[name].tokenizer)  # type: ignore[arg-type]
                self.addresses[name].append(model.make_head("", name, target, self.kinds.get(name, "linear")))

    def _targets(self, name: str) -> list[Target]:
        return list(self.by_modality[name])  # type: ignore[arg-type, call-overload]

    def targets(self) -> dict[str, Target]:
        return {f"{name}/{type(t).__name__}": t for name in self.by_modality for t in self._targets(name)}

    def hidden(self, tokens: Tokens, progress: float, draw: Draw) -> tuple[Tensor, Tensor]:
        """(hidden_T, rate_S): the places, and the rate as drawn (of the first modality a segment has, if each has its own)."""
        if isinstance(self.masking, Masking):
            rate_S = self.masking.rates(tokens, progress, draw)
            return self.masking.hidden(tokens, progress, draw), rate_S
        hidden_T = torch.zeros(len(tokens), dtype=torch.bool)
        rate_S = torch.zeros(tokens.layout.segments, dtype=torch.float64)
        for name in reversed(tokens.names):
            index_N = tokens.index[name]
            if len(index_N) == 0 or name not in self.masking:  # one without targets needs no masking
                continue
            alone = tokens.only(name)
            stream = draw.stream(name)
            hidden_T[index_N] = self.masking[name].hidden(alone, progress, stream)
            there_S = torch.bincount(alone.layout.segment_T, minlength=len(rate_S)) > 0
            rate_S = torch.where(there_S, self.masking[name].rates(alone, progress, stream).double(), rate_S)
        return hidden_T, rate_S

    def views(self, tokens: Tokens, progress: float, draw: Draw) -> list[View]:
        hidden_T, rate_S = self.hidden(tokens, progress, draw.stream("mask"))
        view = self.corruption(tokens, hidden_T, progress, draw.stream("corrupt"))
        return [replace(view, rate_S=rate_S)]

    def counts(self, tokens: Tokens, views: Sequence[View]) -> dict[str, float]:
        asked = views[0].asked
        return {name: float(len(asked[name.split("/")[0]])) for name in self.targets()}

    def forward(self, model: Model, tokens: Tokens, views: Sequence[View], progress: float) -> list[Term]:
        given: dict[str, tuple[Tensor, float]] = {}
        for name, target, address, y_ND, answer_N, weight_N in self._asked(model, views[0]):
            score = _scored(model.heads[address], target)
            loss_N = rowwise(score, y_ND, target.truth(tokens, answer_N), target.size)
            given[f"{name}/{type(target).__name__}"] = (loss_N * weight_N).sum(), float(len(answer_N))
        absent = torch.zeros((), device=views[0].read_N.device), 0.0
        return [Term(n, *given.get(n, absent), self.weights.get(n.split("/")[0], 1.0)) for n in self.targets()]

    def answers(self, model: Model, tokens: Tokens, views: Sequence[View]) -> list[Answer]:
        answers = []
        for name, target, address, y_ND, answer_N, weight_N in self._asked(model, views[0]):
            output_NV, truth_N = model.heads[address](y_ND), target.truth(tokens, answer_N)
            loss_N = target.loss(output_NV, truth_N)
            answers.append(Answer(name, target, address, answer_N, output_NV, truth_N, loss_N, weight_N))
        return answers

    def _asked(self, model: Model, view: View) -> Iterator[tuple[str, Target, str, Tensor, Tensor, Tensor]]:
        """(modality, target, address of its head, y_ND, answer_N, weight_N) of each target that is asked in the batch."""
        y_ND = model(view)
        for name in model.names:
            at_N = view.asked[name]
            if len(at_N) == 0:
                continue
            own = y_ND[at_N], view.answer_N[at_N], view.weight_N[at_N]
            for target, address in zip(self._targets(name), self.addresses[name], strict=True):
                yield name, target, address, *own


def _scored(head: nn.Module, target: Target) -> Callable[[Tensor, Tensor], Tensor]:
    """loss_N of (y_ND, truth_N)."""
    return lambda y_ND, truth_N: target.loss(head(y_ND), truth_N)
