"""data2vec for sound, of the transformers library.

Shape suffixes: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._waveform_encoder import OfTransformers


class Data2VecAudio(OfTransformers):
    """data2vec, arXiv:2202.03555: wav2vec 2.0 with layer norms, whose positions come from five smaller convolutions."""

    kind, classes = "data2vec-audio", ("Data2VecAudioConfig", "Data2VecAudioModel")

    def neighbours(self, config: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "kernel": config["conv_pos_kernel_size"],
            "groups": config["num_conv_pos_embedding_groups"],
            "depth": config["num_conv_pos_embeddings"],
            "norm": "layer",
        }

    def unfit(self, modality: Any) -> dict[str, bool]:
        return {
            f"positions from {modality.neighbours}": modality.neighbours.norm != "layer",
            "norms before the branches": not modality.with_norm,
            "a group norm": modality.conv_norm != "layer",
            "no norm of the features": not modality.feature_norm,
        }

    def positions_of(self, neighbours: Any) -> dict[str, Any]:
        return {
            "conv_pos_kernel_size": neighbours.kernel,
            "num_conv_pos_embedding_groups": neighbours.groups,
            "num_conv_pos_embeddings": neighbours.depth,
        }

    def switches(self, modality: Any, encoder: Any) -> dict[str, Any]:
        return {}
