"""One corrupted look at a batch: what the encoder sees, what is asked, who may attend to whom.

Shape suffixes: T packed tokens of the view, K kept tokens, N asked tokens, S segments.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .layout import Layout
from .rule import Rule
from .tokens import Part, Tokens


@dataclass(frozen=True)
class View:
    """Made by a corruption, on the host; every index and length the model needs is worked out here, so that the model never
    asks.

    Args:
        tokens: what the encoder sees. A corruption may change content, length and order.
        hidden_T: tokens whose content is replaced by their modality's mask vector.
        kept_K: packed places that enter the encoder, ascending; None keeps all (MAE: the visible ones).
        layout_K: layout of the kept tokens.
        read_N: places of the view's axis where one looks.
        answer_N: places of the *clean* axis that are predicted there. Masked modelling: the same; causal: read = answer - 1.
        weight_N: weight of each answer in its loss.
        asked: for each modality, which of the N answers are its own.
        rate_S: the rate as drawn. time_S: the noise level, where there is one.
        rule: who may attend to whom; None: everyone in the segment.
        parts: what each modality embeds: rows, layout and hidden tokens. gather_K: where each kept token lies among the
            embedded.
        place_N: where each place that is read lies among the kept tokens, -1 where it was dropped; readable: none was.
    """

    tokens: Tokens
    hidden_T: Tensor
    kept_K: Tensor | None
    layout_K: Layout
    read_N: Tensor
    answer_N: Tensor
    weight_N: Tensor
    asked: dict[str, Tensor]
    rate_S: Tensor | None = None
    time_S: Tensor | None = None
    rule: Rule | None = None
    parts: tuple[tuple[Part, Tensor], ...] = ()
    gather_K: Tensor | None = None
    place_N: Tensor | None = None
    readable: bool = True

    @classmethod
    def of(
        cls,
        tokens: Tokens,
        hidden_T: Tensor,
        *,
        clean: Tokens | None = None,
        answer_N: Tensor | None = None,
        read_N: Tensor | None = None,
        weight_N: Tensor | None = None,
        kept_K: Tensor | None = None,
        rate_S: Tensor | None = None,
        time_S: Tensor | None = None,
        rule: Rule | None = None,
    ) -> View:
        """A view with its indices worked out.

        Args:
            hidden_T: tokens that show the mask vector.
            clean: the tokens the answers are in; by default ``tokens``.
            answer_N: what is predicted; by default every hidden token.
            read_N: where; by default at ``answer_N``.
            weight_N: by default 1.
        """
        answer_N = hidden_T.nonzero()[:, 0] if answer_N is None else answer_N
        clean = tokens if clean is None else clean
        modality_N = clean.layout.modality_T[answer_N]
        view = cls(
            tokens=tokens,
            hidden_T=hidden_T,
            kept_K=kept_K,
            layout_K=tokens.layout if kept_K is None else tokens.layout.select(kept_K),
            read_N=answer_N if read_N is None else read_N,
            answer_N=answer_N,
            weight_N=torch.ones(len(answer_N)) if weight_N is None else weight_N,
            asked={n: (modality_N == i).nonzero()[:, 0] for i, n in enumerate(tokens.names)},
            rate_S=rate_S,
            time_S=time_S,
            rule=rule,
        )
        return view._planned()

    def _planned(self) -> View:
        """Which content rows are embedded, and where each kept token then lies among the embedded ones."""
        keep_T = torch.ones(len(self.tokens), dtype=torch.bool)
        if self.kept_K is not None:
            keep_T = torch.zeros(len(self.tokens), dtype=torch.bool)
            keep_T[self.kept_K] = True
        parts: list[tuple[Part, Tensor]] = []
        place_T = torch.full((len(self.tokens),), -1, dtype=torch.int64)
        total = 0
        for name in self.tokens.names:
            part = self.tokens.part(name)
            if self.kept_K is not None and self.tokens.tokenizers[name].rowwise:
                number_N = keep_T[part.index_N].nonzero()[:, 0]
                index_N = part.index_N[number_N]
                part = Part(part.content_R[number_N], self.tokens.layout.select(index_N), index_N)
            place_T[part.index_N] = torch.arange(total, total + len(part.index_N))
            total += len(part.index_N)
            parts.append((part, self.hidden_T[part.index_N]))
        gather_K = place_T if self.kept_K is None else place_T[self.kept_K]
        kept_T = torch.full((len(self.tokens),), -1, dtype=torch.int64)
        kept_T[keep_T] = torch.arange(int(keep_T.sum()))
        place_N = kept_T[self.read_N]
        readable = bool((place_N >= 0).all())
        return replace(self, parts=tuple(parts), gather_K=gather_K, place_N=place_N, readable=readable)

    def to(self, device: torch.device | str) -> View:
        """The same view on ``device``."""

        def move(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.to(device, non_blocking=True)

        parts = tuple(
            (Part(p.content_R.to(device), p.layout_N.to(device), p.index_N.to(device)), h.to(device)) for p, h in self.parts
        )
        fields = ("hidden_T", "kept_K", "read_N", "answer_N", "weight_N", "rate_S", "time_S", "gather_K", "place_N")
        moved = {f: move(getattr(self, f)) for f in fields}
        layout_K = self.layout_K.to(device)
        asked = {n: a.to(device) for n, a in self.asked.items()}
        return replace(self, tokens=self.tokens.to(device), layout_K=layout_K, asked=asked, parts=parts, **moved)  # type: ignore[arg-type]
