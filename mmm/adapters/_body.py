"""What adapters ask of a model: its body, layer by layer, and the modules of its encoder.

Shape suffixes: none; nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from mmm.core.adapter import Adapter
from mmm.core.model import Model
from mmm.core.network import Encoder


class InPlace(Adapter):
    """An adapter that puts no module in: the weights of its model are plain at any time."""

    def merge(self, model: Model) -> None:
        """Nothing is left to fold."""


def body(model: Model) -> dict[str, nn.Parameter]:
    """Parameters of the modalities, the encoder and the decoder by their names in the model; no head's."""
    return {name: p for name, p in model.named_parameters() if not name.startswith("heads.")}


def stack(encoder: Encoder) -> nn.ModuleList:
    """The blocks of an encoder: its first list of ``depth`` modules.

    Raises:
        ValueError: it has none.
    """
    for module in encoder.modules():
        if isinstance(module, nn.ModuleList) and len(module) == encoder.depth:
            return module
    raise ValueError(
        f"{type(encoder).__name__} has no ModuleList of its {encoder.depth} blocks, so an adapter cannot tell its layers; "
        "keep the blocks of an encoder in one nn.ModuleList"
    )


def layers(model: Model) -> list[list[nn.Parameter]]:
    """The body from the bottom to the top: embeddings, each block of the encoder, then the last norm and the decoder.

    What an encoder registers before its blocks counts to the embeddings, what it registers after them to the top.
    """
    blocks = stack(model.encoder)  # type: ignore[arg-type]
    of_block = {id(p): i for i, block in enumerate(blocks, 1) for p in block.parameters()}
    groups: list[list[nn.Parameter]] = [[] for _ in range(len(blocks) + 2)]
    groups[0] += model.modalities.parameters()
    if model.modality_vector is not None:
        groups[0] += model.modality_vector.parameters()
    level = 0
    for parameter in model.encoder.parameters():
        if id(parameter) in of_block:
            level = len(blocks) + 1
        groups[of_block.get(id(parameter), level)].append(parameter)
    groups[-1] += model.decoder.parameters()
    return groups


def places(module: nn.Module, kind: type[nn.Module]) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """(parent, name there, module) of every module of this kind, listed before any is replaced."""
    found = [(parent, name, child) for parent in module.modules() for name, child in parent.named_children()]
    yield from ((parent, name, child) for parent, name, child in found if isinstance(child, kind))
