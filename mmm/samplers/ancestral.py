"""In random order.

Shape suffixes: T packed tokens, N asked tokens.
"""

from __future__ import annotations

from torch import Tensor

from mmm.core.draw import Draw
from mmm.core.model import Model
from mmm.core.sampler import Sampler, filled
from mmm.core.tokens import Tokens


class Ancestral(Sampler):
    """Every hidden token is filled in at a step of its own choosing, all steps being as likely.

    That is ancestral sampling of absorbing-state diffusion in equal steps of the noise level: a token that is still hidden
    before step k of K is filled in there with probability 1 / (K - k + 1), whatever the others do. As the step of a token
    hangs on nothing the model says, the head is asked at the tokens of the step alone, and a step without any is passed over.

    Paper: D3PM, arXiv:2107.03006 (absorbing state); MDLM, arXiv:2406.07524 (the same in continuous time).

    Args:
        steps: K; with many more than tokens, about one is filled in at a time. temperature: of the ids.
    """

    def __init__(self, steps: int = 32, temperature: float = 1.0):
        super().__init__(steps, temperature)

    def __call__(self, model: Model, tokens: Tokens, hidden_T: Tensor, draw: Draw, drops: bool = False) -> Tokens:
        step_T = (draw.stream("step").per_token(tokens.layout) * self.steps).long()
        for step in range(self.steps):
            at_N = (hidden_T & (step_T == step)).nonzero()[:, 0]
            if len(at_N):
                id_N = self.guess(model, tokens, hidden_T & (step_T >= step), at_N, draw, step, drops).id_N
                tokens = filled(tokens, at_N, id_N)
        return tokens
