"""The model: every modality embeds its own rows, one encoder reads them all, a decoder answers.

Shape suffixes: T packed tokens, K kept tokens, N asked tokens, D width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from .errors import BadRecipe
from .head import Head, HeadKind, HeadSettings
from .modality import Modality
from .network import Decoder, Encoded, Encoder
from .target import Target
from .view import View


def fault_of_name(name: str) -> str | None:
    """Why a modality cannot be called so, if it cannot: torch keeps modules under plain names, beside its own attributes."""
    if not name or "." in name:
        return "a modality's name is not empty and has no dot, which parts addresses"
    if hasattr(nn.ModuleDict(), name):
        return f"a modality cannot be called {name!r}: torch's modules have an attribute of that name; try {name}_data"
    return None


class Model(nn.Module):
    """Modalities around one shared encoder.

    Args:
        modalities: by name; their order numbers them. They are built here.
        encoder: shared by all. decoder: makes answers of what it returns.
        modality_vector: add one learned vector a modality to its tokens (off for imported weights).
    """

    def __init__(self, modalities: Mapping[str, Modality], encoder: Encoder, decoder: Decoder, modality_vector: bool = False):
        super().__init__()
        for name, modality in modalities.items():
            if fault := fault_of_name(name):
                raise BadRecipe(fault)
            modality.build(encoder.width)
        decoder.build(encoder.width, list(modalities))
        self.modalities = nn.ModuleDict(modalities)
        self.encoder, self.decoder = encoder, decoder
        self.modality_vector = nn.Embedding(len(modalities), encoder.width) if modality_vector else None
        if self.modality_vector is not None:
            nn.init.normal_(self.modality_vector.weight, std=0.02)
        self.heads = nn.ModuleDict()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.modalities)

    def make_head(self, path: str, name: str, target: Target, settings: HeadKind | HeadSettings = "linear") -> str:
        """Make the head of one target of one modality and return its address."""
        address = "/".join(filter(None, (path, name, type(target).__name__)))
        modality = self.modalities[name]
        assert isinstance(modality, Modality)
        tied = modality.tied() if "tied" in (settings, getattr(settings, "kind", None)) else None
        self.heads[address] = Head(settings, self.decoder.width, target.size, tied)
        return address

    def id_head(self, name: str) -> str:
        """The address of the head that answers with the ids of a modality. Raises BadRecipe where there is none."""
        size = self.modalities[name].tokenizer.size
        for address, head in self.heads.items():
            if size and address.split("/")[0] == name and head.size == size:
                return address
        heads = ", ".join(self.heads) or "none"
        raise BadRecipe(f"the model has no head that predicts masked tokens of {name!r}; its heads: {heads}")

    def embed(self, view: View) -> Tensor:
        """x_KD of the kept tokens: one gather over what the modalities embedded."""
        embedded = [
            self.modalities[name].embed(part.content_R, part.layout_N, hidden_N)  # type: ignore[operator]
            for name, (part, hidden_N) in zip(self.names, view.parts, strict=True)
            if len(part.layout_N)
        ]
        if not embedded:
            return torch.zeros(0, self.encoder.width, device=view.read_N.device)
        x_KD = torch.cat([x.to(embedded[0].dtype) for x in embedded])
        if len(embedded) > 1 or view.kept_K is not None:  # one modality, all kept: already in order
            x_KD = x_KD[view.gather_K]
        if self.modality_vector is not None:
            x_KD = x_KD + self.modality_vector(view.layout_K.modality_T)
        return x_KD

    def encode(self, view: View, want: Sequence[int] = ()) -> Encoded:
        """The encoder over the kept tokens."""
        return self.encoder(self.embed(view), view.layout_K, view.rule, view.time_S, want)  # type: ignore[no-any-return]

    def forward(self, view: View) -> Tensor:
        """y_ND, the decoder's answers at ``view.read_N``."""
        return self.decoder(self.encode(view).x_KD, view)  # type: ignore[no-any-return]

    def of_modality(self, name: str) -> list[nn.Parameter]:
        """Parameters that only this modality uses: its own and those of its heads."""
        modules = [self.modalities[name], *(h for a, h in self.heads.items() if name in a.split("/"))]
        return [p for m in modules for p in m.parameters()]

    def by_modality(self) -> dict[str, nn.Parameter]:
        """Parameters with one row a modality, in the model's order, by their names here."""
        names = [f"decoder.{name}" for name in self.decoder.by_modality]
        names += ["modality_vector.weight"] if self.modality_vector is not None else []
        return {name: self.get_parameter(name) for name in names}
