"""Learned tokens before every record.

Shape suffixes: P prompts a segment, D width.
"""

from __future__ import annotations

from mmm.core.adapter import Adapter, freeze_body
from mmm.core.model import Model

from ._around import Prompted, Refreshed
from ._body import stack


class Prompt(Adapter):
    """Learned rows (P, D) stand before each segment when it enters the encoder and are gone from what it returns.

    They have no position: rotary positions leave them as they are, and the tokens keep theirs. Under an attention rule every
    token sees them and they see one another alone. Local attention is the encoder's own matter: its local layers show the
    prompts to the tokens near the start of a segment. The body is frozen. The first step differs from the plain model: even
    prompts of 0 would take a share of the attention.

    Paper: Lester et al. 2021, "Prompt tuning", arXiv:2104.08691; deep: Jia et al. 2022, "VPT", arXiv:2203.12119, section 3.2.

    Args:
        tokens: P, learned rows a segment.
        deep: new rows at the input of every block (VPT-deep) instead of the first one's alone.
    """

    def __init__(self, tokens: int = 10, deep: bool = False):
        super().__init__()
        if tokens < 1:
            raise ValueError(f"Prompt(tokens={tokens}): needs 1 or more")
        self.tokens, self.deep = tokens, deep

    def adapt(self, model: Model) -> None:
        """Raises ValueError where ``deep`` is asked of an encoder whose blocks cannot be told apart."""
        freeze_body(model)
        if self.deep:
            blocks = stack(model.encoder)  # type: ignore[arg-type]
            for i in range(1, len(blocks)):
                blocks[i] = Refreshed(blocks[i], self.tokens, model.encoder.width)  # type: ignore[arg-type]
        model.encoder = Prompted(model.encoder, self.tokens)
