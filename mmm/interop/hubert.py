"""HuBERT of the transformers library.

Shape suffixes: none.
"""

from __future__ import annotations

from typing import Any

from ._waveform_encoder import OfTransformers


class Hubert(OfTransformers):
    """HuBERT, arXiv:2106.07447: base (post-norm, group norm) and large (pre-norm, layer norms)."""

    kind, classes = "hubert", ("HubertConfig", "HubertModel")

    def switches(self, modality: Any, encoder: Any) -> dict[str, Any]:
        return {**super().switches(modality, encoder), "feat_proj_layer_norm": modality.feature_norm}
