"""Filling hidden tokens in, some at a time, each from what is shown by then.

Shape suffixes: T packed tokens, N asked tokens, V output size, G (segment, modality) pairs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from .draw import Draw
from .model import Model
from .tokens import Tokens
from .view import View

_ROWS = 256  # asked tokens whose outputs are held at once


@dataclass(frozen=True)
class Guess:
    """What a model puts at asked tokens: id_N, and the logarithm of the probability it gave each, logp_N."""

    id_N: Tensor
    logp_N: Tensor


class Sampler(ABC):
    """An order in which hidden tokens are filled in. Draws are keyed by record, place and step, not by batch mates.

    Args:
        steps: times the model is asked. temperature: of the ids; 0 takes the likeliest.

    Raises:
        ValueError: no step, or a temperature below 0.
    """

    def __init__(self, steps: int, temperature: float = 1.0):
        if steps < 1 or not 0 <= temperature < float("inf"):
            raise ValueError(
                f"{type(self).__name__}(steps={steps}, temperature={temperature}): needs a step or more, and a finite "
                "temperature that is not below 0"
            )
        self.steps, self.temperature = steps, temperature

    @abstractmethod
    def __call__(self, model: Model, tokens: Tokens, hidden_T: Tensor, draw: Draw, drops: bool = False) -> Tokens:
        """The tokens, on the host, with ids at the hidden ones; all others are as they were.

        Args:
            hidden_T: what is filled in; only ids can be. drops: the model was trained on hidden tokens that are left out, not
                on mask vectors.

        Raises:
            ValueError: where the model has no head that answers with ids of the hidden tokens' modality.
        """

    def guess(self, model: Model, tokens: Tokens, hidden_T: Tensor, at_N: Tensor, draw: Draw, step: int, drops: bool) -> Guess:
        """An id for each of the hidden tokens ``at_N``, drawn by itself from what the model says of it.

        Ids that nobody may draw (specials) get none of the probability. The model is one in ``eval`` mode.
        """
        kept_K = (~hidden_T).nonzero()[:, 0] if drops else None
        view = View.of(tokens, hidden_T, answer_N=at_N, kept_K=kept_K)
        device = next(model.parameters()).device
        exact = device if device.type != "mps" else torch.device("cpu")  # where float64 is
        with torch.no_grad():
            y_ND = model(view.to(device))
            bits_N = draw.stream("id").bits_per_token(tokens.layout, step)[at_N]
            # 53 bits: with fewer, ids that are rare would never come (arXiv:2409.02908).
            uniform_N = ((bits_N >> 11) & ((1 << 53) - 1)).double() * 2.0**-53
            id_N, logp_N = torch.zeros(len(at_N), dtype=torch.int64), torch.zeros(len(at_N))
            for name, own_N in view.asked.items():
                if len(own_N) == 0:
                    continue
                head, tokenizer = model.heads[model.id_head(name)], tokens.tokenizers[name]
                barred_V = torch.ones(tokenizer.size, dtype=torch.bool)
                barred_V[tokenizer.choices] = False
                barred = barred_V.nonzero()[:, 0].to(exact)
                for rows in own_N.split(_ROWS):  # type: ignore[no-untyped-call]
                    logits_NV = head(y_ND[rows.to(device)]).float().to(exact).index_fill(1, barred, -torch.inf)
                    chosen_N1 = self._drawn(logits_NV, uniform_N[rows].to(exact))
                    id_N[rows] = chosen_N1[:, 0].cpu()
                    logp_N[rows] = logits_NV.log_softmax(1).gather(1, chosen_N1)[:, 0].cpu()
        return Guess(id_N, logp_N)

    def _drawn(self, logits_NV: Tensor, uniform_N: Tensor) -> Tensor:
        """id_N1: the first whose cumulated probability exceeds a uniform number.

        Raises:
            ValueError: where the outputs are not finite.
        """
        highest_N1 = logits_NV.amax(1, keepdim=True)
        if not highest_N1.isfinite().all():
            raise ValueError(f"{type(self).__name__}: the model's outputs are not finite; its weights are broken")
        if self.temperature == 0:
            return logits_NV.argmax(1, keepdim=True)
        total_NV = ((logits_NV - highest_N1) / self.temperature).softmax(1).cumsum(1, dtype=torch.float64)
        return torch.searchsorted(total_NV, uniform_N[:, None] * total_NV[:, -1:], right=True)


def filled(tokens: Tokens, at_N: Tensor, id_N: Tensor) -> Tokens:
    """The tokens with these ids at packed places ``at_N``."""
    modality_N, content = tokens.layout.modality_T[at_N], {}
    for i, name in enumerate(tokens.names):
        own_N = modality_N == i
        if own_N.any():
            content[name] = tokens.content[name].index_put((tokens.number_T[at_N[own_N]],), id_N[own_N])
    return tokens.with_content(**content)


def lowest(rank_N: Tensor, group_N: Tensor, count_G: Tensor) -> Tensor:
    """low_N: whether a token is among the ``count_G`` lowest of its group; ties fall in order."""
    order_N = torch.argsort(rank_N, stable=True)
    order_N = order_N[torch.argsort(group_N[order_N], stable=True)]
    size_G = torch.bincount(group_N, minlength=len(count_G))
    ordered_N = group_N[order_N]
    place_N = torch.arange(len(rank_N)) - (size_G.cumsum(0) - size_G)[ordered_N]
    low_N = torch.zeros(len(rank_N), dtype=torch.bool)
    low_N[order_N] = place_N < count_G[ordered_N]
    return low_N
