"""A model that is there to be asked, not trained.

Shape suffixes: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from torch import nn

from mmm.core.draw import Draw
from mmm.core.head import HeadKind, HeadSettings
from mmm.core.model import Model
from mmm.core.objective import Objective, Term
from mmm.core.target import Target
from mmm.core.tokens import Tokens
from mmm.core.view import View


class NoObjective(Objective):
    """No objective: a pretrained encoder, and the heads it came with, to be asked for features and answers.

    What was learned elsewhere with targets that are not here (the codes of another tokenizer) loads as this. To train it, name
    an objective: ``init_from`` takes everything else from the source.

    Args:
        targets: what the heads answer, for each modality; none by default. heads: kind of head; linear where none is named.
    """

    def __init__(self, targets: dict[str, Target] | None = None, heads: dict[str, HeadKind | HeadSettings] | None = None):
        super().__init__()
        self.by_modality = nn.ModuleDict(targets or {})
        self.kinds: dict[str, HeadKind | HeadSettings] = heads or {}

    def setup(self, model: Model) -> None:
        for name, target in self.by_modality.items():
            assert isinstance(target, Target)
            target.bind(name, model.modalities[name].tokenizer)  # type: ignore[arg-type]
            model.make_head("", name, target, self.kinds.get(name, "linear"))

    def views(self, tokens: Tokens, progress: float, draw: Draw) -> list[View]:
        self._refuse()

    def counts(self, tokens: Tokens, views: Sequence[View]) -> dict[str, float]:
        self._refuse()

    def forward(self, model: Model, tokens: Tokens, views: Sequence[View], progress: float) -> list[Term]:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise ValueError("this model has no objective, so it cannot be trained as it is; name one in model.objective")
