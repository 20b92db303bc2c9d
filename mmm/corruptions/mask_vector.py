"""The mask vector at the chosen places, with the usual exceptions.

Shape suffixes: T packed tokens, N tokens of one modality, S segments.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmm.core.corruption import Corruption
from mmm.core.draw import Draw
from mmm.core.errors import did_you_mean
from mmm.core.tokens import Tokens
from mmm.core.view import View


class MaskVector(Corruption):
    """Of the chosen tokens, a share gets random content, a share is kept as it is, and the rest shows the mask vector. All
    are asked.

    BERT's 80/10/10 is ``random: 0.1, keep: 0.1``. A random id is any that the tokenizer allows; where content is not ids, it
    is that of another token of the same record.

    Paper: BERT, arXiv:1810.04805, section 3.1 and appendix A.1.

    Args:
        random: share that gets random content; a number, or one a modality (0 for those left out).
        keep: share that is kept; likewise.
    """

    def __init__(self, random: float | dict[str, float] = 0.0, keep: float | dict[str, float] = 0.0):
        self.random, self.keep = random, keep
        for name in {*_names(random), *_names(keep), ""}:
            r, k = _of(random, name), _of(keep, name)
            if r < 0 or k < 0 or r + k > 1:
                raise ValueError(
                    f"MaskVector(random={random}, keep={keep}): two shares of the hidden tokens, together at most 1"
                )

    def __call__(self, tokens: Tokens, hidden_T: Tensor, progress: float, draw: Draw) -> View:
        for unknown in {*_names(self.random), *_names(self.keep)} - set(tokens.names):
            raise ValueError(f"MaskVector: no modality {unknown!r}. {did_you_mean(unknown, tokens.names)}")
        shows_T = hidden_T.clone()
        content = {}
        uniform_T = draw.stream("split").per_token(tokens.layout)
        for name, index_N in tokens.index.items():
            random, keep = _of(self.random, name), _of(self.keep, name)
            if random + keep == 0 or len(index_N) == 0:
                continue
            hidden_N, uniform_N = hidden_T[index_N], uniform_T[index_N]
            shows_T[index_N] = hidden_N & (uniform_N >= random + keep)
            if random:
                at_N = (hidden_N & (uniform_N < random)).nonzero()[:, 0]
                content[name] = _replaced(tokens, name, index_N, at_N, draw.stream("random"))
        seen = tokens.with_content(**content)
        return View.of(seen, shows_T, clean=tokens, answer_N=hidden_T.nonzero()[:, 0])


def _replaced(tokens: Tokens, name: str, index_N: Tensor, at_N: Tensor, draw: Draw) -> Tensor:
    """The modality's content with random content at its tokens ``at_N``."""
    tokenizer, content_R = tokens.tokenizers[name], tokens.content[name].clone()
    if not tokenizer.rowwise:
        raise ValueError(
            f"MaskVector(random=...) on {name!r}: its content has no row a token that could be replaced; "
            f"give the share by modality, without {name!r}"
        )
    layout = tokens.layout
    # 31 bits are plenty for a choice among fewer than a million.
    bits_N = (draw.bits_per_token(layout)[index_N[at_N]] >> 33) & 0x7FFFFFFF
    if tokenizer.choices is not None:
        content_R[at_N] = tokenizer.choices[(bits_N * len(tokenizer.choices)) >> 31]
        return content_R
    free_N = layout.maskable_T[index_N].nonzero()[:, 0]
    count_S = torch.bincount(layout.segment_T[index_N[free_N]], minlength=layout.segments)
    first_S = count_S.cumsum(0) - count_S
    segment_N = layout.segment_T[index_N[at_N]]
    pick_N = first_S[segment_N] + ((bits_N * count_S[segment_N]) >> 31)
    content_R[at_N] = tokens.content[name][free_N[pick_N]]
    return content_R


def _names(share: float | dict[str, float]) -> set[str]:
    return set(share) if isinstance(share, dict) else set()


def _of(share: float | dict[str, float], name: str) -> float:
    return share.get(name, 0.0) if isinstance(share, dict) else share
