"""New modalities under an old body.

Shape suffixes: M modalities.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from mmm.core.errors import did_you_mean
from mmm.core.model import Model

from ._body import InPlace


class NewModalities(InPlace):
    """Embeddings and heads of modalities that the pretrained model had not are learned; its body is frozen, or follows slowly.

    The body is the encoder, the decoder, and the embeddings and heads of the ``old`` modalities. Frozen, it has no dropout, and
    what it makes of the old modalities keeps its bits. A table with a row a modality (the modality vectors, a decoder's mask
    vectors) holds rows of both kinds: after every step its old rows are put back, or go a share ``body`` of the way.

    Paper: Tsimpoukelli et al. 2021, "Multimodal Few-Shot Learning with Frozen Language Models", arXiv:2106.13884 (a new
    modality's embedding is learned through a frozen body).

    Args:
        old: modalities that the pretrained model had; none: all are new to it.
        body: factor on the learning rate of the body, 0 (frozen) to 1.
    """

    def __init__(self, old: Sequence[str] = (), body: float = 0.0):
        super().__init__()
        if not 0 <= body <= 1:
            raise ValueError(f"NewModalities(body={body}): needs a factor of at least 0, which freezes the body, and at most 1")
        self.old, self.body = list(old), body
        self._before: dict[str, Tensor] = {}  # old rows of the tables, between the gradient and the step

    def adapt(self, model: Model) -> None:
        """Raises ValueError where the model has no modality of a name that is said to be old."""
        for name in self.old:
            if name not in model.names:
                raise ValueError(f"NewModalities(old): the model has no modality {name!r}. {did_you_mean(name, model.names)}")
        if self.body:
            return
        for part in self._parts(model):
            part.requires_grad_(False)
            for module in part.modules():
                if isinstance(module, nn.Dropout):
                    module.p = 0.0
        for table_M in model.by_modality().values():
            table_M.requires_grad_(True)

    def rates(self, model: Model) -> dict[nn.Parameter, float]:
        """The factor of everything in the body but the tables, whose rows ``after_step`` tells apart."""
        tables = set(model.by_modality().values())
        return {p: self.body for part in self._parts(model) for p in part.parameters() if p not in tables}

    @torch.no_grad()
    def after_backward(self, model: Model, progress: float) -> None:
        """What is frozen takes no part in the gradient's norm."""
        rows = self._rows(model)
        self._before = {name: table_M[rows].clone() for name, table_M in model.by_modality().items()}
        for table_M in model.by_modality().values():
            if table_M.grad is not None and not self.body:
                table_M.grad[rows] = 0.0

    @torch.no_grad()
    def after_step(self, model: Model, progress: float) -> None:
        rows = self._rows(model)
        for name, table_M in model.by_modality().items():
            before = self._before[name]
            table_M[rows] = before.lerp(table_M[rows], self.body) if self.body else before
        self._before = {}

    def _rows(self, model: Model) -> list[int]:
        """The old rows of a table."""
        return [i for i, name in enumerate(model.names) if name in self.old]

    def _parts(self, model: Model) -> Iterator[nn.Module]:
        """The modules of the body."""
        yield from (model.encoder, model.decoder)
        yield from (model.modalities[name] for name in self.old)
        yield from (head for address, head in model.heads.items() if set(self.old) & set(address.split("/")))
