"""The body as it is; only heads learn.

Shape suffixes: none.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from mmm.core.adapter import freeze_body
from mmm.core.errors import did_you_mean
from mmm.core.model import Model

from ._body import InPlace


class Frozen(InPlace):
    """A probe: the body is frozen, heads and what the objective owns are trained.

    The body's dropout is off, so that features are the same in training and evaluation. Trained parameters: none of the body.

    Parts may be named that are trained all the same: with ``train: [modalities]`` a new embedding is learned under a frozen
    encoder, as for a new language (Artetxe et al. 2020, arXiv:1910.11856).

    Paper: Alain & Bengio 2016, "Understanding intermediate layers using linear classifier probes", arXiv:1610.01644.

    Args:
        train: names of parts of the model that are trained besides the heads.
    """

    def __init__(self, train: Sequence[str] = ()):
        super().__init__()
        self.train_too = list(train)

    def adapt(self, model: Model) -> None:
        """Raises ValueError where the model has no part of a name that is to be trained."""
        freeze_body(model)
        parts = {name: part for name, part in model.named_modules() if name}
        for name in self.train_too:
            if name not in parts:
                raise ValueError(f"Frozen(train): the model has no part {name!r}. {did_you_mean(name, parts)}")
            parts[name].requires_grad_(True)
        for part in (model.modalities, model.encoder, model.decoder):
            for module in part.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.0
