"""Everything learns, lower layers more slowly.

Shape suffixes: none.
"""

from __future__ import annotations

from torch import nn

from mmm.core.model import Model

from ._body import InPlace, layers


class LayerDecay(InPlace):
    """Full fine-tuning with a learning rate that falls from the top of the body to its bottom.

    The factor is decay ** distance from the top: 1 for heads, the encoder's last norm and the decoder; decay for its last
    block; decay ** depth for its first; decay ** (depth + 1) for embeddings.

    Paper: BEiT, arXiv:2106.08254, appendix H (the numbering is that of its code); ELECTRA, arXiv:2003.10555, appendix B; the
    idea: ULMFiT, arXiv:1801.06146, section 3.2 ("discriminative fine-tuning").

    Args:
        decay: factor from one layer to the one below it, above 0 and at most 1 (BEiT 0.65 to 0.85, ELECTRA 0.8).
    """

    def __init__(self, decay: float = 0.75):
        super().__init__()
        if not 0 < decay <= 1:
            raise ValueError(f"LayerDecay(decay={decay}): needs a factor above 0 and at most 1")
        self.decay = decay

    def adapt(self, model: Model) -> None:
        """Everything stays trained. Raises ValueError where the encoder's layers cannot be told apart."""
        layers(model)

    def rates(self, model: Model) -> dict[nn.Parameter, float]:
        """The factor of every parameter of the body."""
        return {p: self.decay**distance for distance, group in enumerate(reversed(layers(model))) for p in group}
