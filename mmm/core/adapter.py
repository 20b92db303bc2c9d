"""What of a pretrained model is trained, and what is put into it for that."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn

from .model import Model


class Adapter(nn.Module, ABC):
    """One rung of the fine-tuning ladder.

    Life: ``adapt`` once, after the model is built and holds its pretrained weights, and before a checkpoint of the run is put
    in; then the two hooks a step. What it keeps for a run is registered here, so that checkpoints hold it.

    The body of a model is its modalities, encoder and decoder. Heads, and what the objective owns, are new to a task: an
    adapter leaves them trained.
    """

    @abstractmethod
    def adapt(self, model: Model) -> None:
        """Freeze parameters (``requires_grad``) and put modules in. The same call on an equal model makes the same names."""

    def rates(self, model: Model) -> dict[nn.Parameter, float]:
        """Factors on the learning rate; 1 where none is named."""
        return {}

    def after_backward(self, model: Model, progress: float) -> None:
        """Called with the whole gradient of a step, before it is clipped."""

    def after_step(self, model: Model, progress: float) -> None:
        """Called after every optimiser step."""

    def merge(self, model: Model) -> None:
        """Fold what was put in into plain weights, so that the model is as it would be without an adapter.

        Raises:
            ValueError: where that is not defined.
        """
        raise ValueError(f"{type(self).__name__} cannot be merged into the weights of a model: it is a part of its own")


def freeze_body(model: Model) -> None:
    """Nothing of the modalities, the encoder and the decoder is trained."""
    for part in (model.modalities, model.encoder, model.decoder):
        part.requires_grad_(False)
    if model.modality_vector is not None:
        model.modality_vector.requires_grad_(False)
