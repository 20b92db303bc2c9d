"""wav2vec 2.0 of the transformers library.

Shape suffixes: none.
"""

from __future__ import annotations

from typing import Any

from ._waveform_encoder import OfTransformers


class Wav2Vec2(OfTransformers):
    """wav2vec 2.0, arXiv:2006.11477: the encoder, also of a checkpoint with quantiser (which stays behind) or a CTC head."""

    kind, classes = "wav2vec2", ("Wav2Vec2Config", "Wav2Vec2Model")

    def unfit(self, modality: Any) -> dict[str, bool]:
        return {**super().unfit(modality), "no norm of the features": not modality.feature_norm}
