"""The surest first.

Shape suffixes: T packed tokens, N asked tokens, G (segment, modality) pairs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mmm.core.draw import Draw
from mmm.core.model import Model
from mmm.core.sampler import Sampler, filled, lowest
from mmm.core.tokens import Tokens


class MaskGit(Sampler):
    """At every step all hidden tokens are guessed, and the guesses that are surest stay; the others are hidden again.

    After step k of K, floor(n cos(pi k / 2K)) of the n hidden tokens of a modality of a record are hidden still, and one less
    than before at the most; where none is left, it is done. How sure a guess is: the logarithm of its probability, plus Gumbel
    noise times ``choice`` (1 - k / K).

    Paper: MaskGIT, arXiv:2202.04200, section 3.2 and appendix. With ``temperature: 0, choice: 0`` it is close to mask-predict
    (arXiv:1904.09324), which guesses shown tokens anew, too.

    Args:
        steps: K. temperature: of the ids. choice: of the order; 0 takes the surest.
    """

    def __init__(self, steps: int = 8, temperature: float = 1.0, choice: float = 4.5):
        super().__init__(steps, temperature)
        if not choice >= 0:
            raise ValueError(f"MaskGit(choice={choice}): a temperature is not below 0")
        self.choice = choice

    def __call__(self, model: Model, tokens: Tokens, hidden_T: Tensor, draw: Draw, drops: bool = False) -> Tokens:
        layout, names = tokens.layout, len(tokens.names)
        group_T = layout.segment_T * names + layout.modality_T
        groups = layout.segments * names
        total_G = torch.bincount(group_T[hidden_T], minlength=groups)
        for step in range(self.steps):
            at_N = hidden_T.nonzero()[:, 0]
            if len(at_N) == 0:
                break
            guess = self.guess(model, tokens, hidden_T, at_N, draw, step, drops)
            done = (step + 1) / self.steps
            uniform_N = draw.stream("choice").per_token(layout, step)[at_N]
            sure_N = guess.logp_N - self.choice * (1 - done) * (-uniform_N.log()).log() if self.choice else guess.logp_N
            group_N = group_T[at_N]
            left_G = (total_G * math.cos(math.pi / 2 * done)).floor().long()
            left_G = torch.minimum(left_G, torch.bincount(group_N, minlength=groups) - 1)
            shown_N = ~lowest(sure_N, group_N, left_G)
            tokens = filled(tokens, at_N[shown_N], guess.id_N[shown_N])
            hidden_T = hidden_T.index_fill(0, at_N[shown_N], False)
        return tokens
