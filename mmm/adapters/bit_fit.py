"""Only biases learn.

Shape suffixes: D width.
"""

from __future__ import annotations

from mmm.core.adapter import freeze_body
from mmm.core.model import Model

from ._body import InPlace, body


class BitFit(InPlace):
    """The biases of the body, each of shape (D,), are trained: those of products, norms and convolutions.

    About 0.1 % of the parameters of BERT.

    Paper: Ben Zaken et al. 2021, "BitFit", arXiv:2106.10199.
    """

    def adapt(self, model: Model) -> None:
        """Raises ValueError where the encoder has no bias."""
        biases = {name: p for name, p in body(model).items() if name.endswith(".bias") and p.ndim == 1}
        if not any(name.startswith("encoder.") for name in biases):
            raise ValueError("BitFit trains biases, but the encoder has none (bias: false); choose LoRA, or bias: true")
        freeze_body(model)
        for bias in biases.values():
            bias.requires_grad_(True)
