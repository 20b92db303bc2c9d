"""Learned keys and values in every layer's attention.

Shape suffixes: T packed tokens, M packed tokens and prefix rows, P prefix rows a segment, H heads, d head width, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmm.core.adapter import Adapter, freeze_body
from mmm.core.layout import Layout
from mmm.core.model import Model
from mmm.core.rule import Rule
from mmm.nn.attention import Attention
from mmm.nn.rotary import rotate

from ._body import places
from ._longer import Longer, beside


class Prefix(Adapter):
    """Prefix tuning: in every layer of the encoder each token attends to P learned keys and values (P, H, d) as well.

    Prefix keys have no position: they are never rotated, and every attention rule, a local one too, lets every token see
    them. The body is frozen. Keys and values are learned themselves, without the net of the paper's section 4.3 that makes
    them in training. The first step differs from the plain model: even a prefix of 0 takes a share of the attention.

    Paper: Li & Liang 2021, "Prefix-Tuning", arXiv:2101.00190; in every layer of an encoder: P-Tuning v2, arXiv:2110.07602.

    Args:
        tokens: P, learned keys and values a layer.
    """

    def __init__(self, tokens: int = 10):
        super().__init__()
        if tokens < 1:
            raise ValueError(f"Prefix(tokens={tokens}): needs 1 or more")
        self.tokens = tokens

    def adapt(self, model: Model) -> None:
        """Raises ValueError where the encoder has no attention of ``mmm.nn.attention``."""
        freeze_body(model)
        found = list(places(model.encoder, Attention))
        if not found:
            raise ValueError(
                f"Prefix: {type(model.encoder).__name__} has no mmm.nn.attention.Attention to put keys into; "
                "choose Prompt or LoRA"
            )
        for parent, name, part in found:
            setattr(parent, name, _Prefixed(part, self.tokens))  # type: ignore[arg-type]


class _Prefixed(Attention):
    """Attention with a prefix, around the products of a plain one. The prefix rows of the longer axis ask, too; what they are
    answered is dropped."""

    def __init__(self, plain: Attention, tokens: int):
        nn.Module.__init__(self)
        self.heads, self.qkv, self.out = plain.heads, plain.qkv, plain.out
        head = plain.out.in_features // plain.heads
        self.key_PHd, self.value_PHd = (nn.Parameter(torch.empty(tokens, plain.heads, head)) for _ in range(2))
        nn.init.normal_(self.key_PHd, std=0.02)
        nn.init.normal_(self.value_PHd, std=0.02)

    def forward(
        self,
        x_TD: Tensor,
        layout: Layout,
        rule: Rule | None = None,
        turn: tuple[Tensor, Tensor] | None = None,
        bias: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """y_TD, as ``Attention``; ``bias`` is 0 at the prefix."""
        rows = len(self.key_PHd)
        q, k, v = self.qkv(x_TD).unflatten(1, (3, self.heads, -1)).unbind(1)
        if turn is not None:
            q, k = rotate(q, *turn), rotate(k, *turn)
        longer = Longer.of(layout, rows)
        q, k, v = q.index_select(0, longer.near_M), longer.insert(k, self.key_PHd), longer.insert(v, self.value_PHd)
        wider = None if bias is None else [F.pad(b, (rows, 0, rows, 0)) for b in bias]  # every segment grows alike: equal runs
        out_MHd = self.attend(q, k, v, longer.layout, beside(rule), wider)
        return self.out(longer.remove(out_MHd).flatten(1))  # type: ignore[no-any-return]
