"""BEiT of the transformers library."""

from __future__ import annotations

from typing import Any

from . import _vision as vision
from ._beit import BeitLike
from .architecture import Original


class Beit(BeitLike):
    """BEiT, arXiv:2106.08254, with or without the head that answers visual tokens."""

    kind, prefix = "beit", "beit"

    def export(self, training: Any) -> Original:
        from transformers import BeitConfig, BeitForMaskedImageModeling, BeitModel

        settings, heads = self.settings(training), training.model.heads
        headed = [*heads] == ["image/ForeignCodes"] and heads["image/ForeignCodes"].kind == "norm"
        vision.misfit({f"heads {', '.join(heads)}": bool(heads) and not headed})
        if headed:
            head = heads["image/ForeignCodes"]
            vision.misfit({"a head with another eps": head.transform.eps != training.model.encoder.eps})
            settings["vocab_size"] = head.size
        config = BeitConfig(**settings)
        model = BeitForMaskedImageModeling(config) if headed else BeitModel(config, add_pooling_layer=False)
        values = config.to_dict() | {"mmm_positions": training.model.modalities["image"].positions}
        return Original("export", "transformers", values, model.eval(), headed=headed)
