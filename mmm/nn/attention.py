"""Attention on the packed axis: exact, inside each segment, on the fastest path the device has.

Shape suffixes: T packed tokens, B segments of one length, n their length, H heads, d head width, S segments, D width.

Backends, all equal to ``dense_attention`` (the reference, kept for tests) up to rounding:
- CPU: neighbouring segments of one length run as one dense batch, in float32 or float64 through the library's scaled dot
  product, in bfloat16 through four batched products with their own backward (the library's is several times slower there).
  There, short segments of different lengths are one batch, too, padded to the longest: less is lost than by many small calls.
  Where the CPU has tiles for bfloat16 (AMX) and no gradient is asked, the library's is the fastest.
- CUDA: the library's variable-length kernel; where a rule, a bias or a dtype does not fit it, the batches of one length.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmm.core.layout import Layout
from mmm.core.rule import Causal, Rule, dense

from .rotary import rotate

_PRODUCTS_UP_TO = 1024  # tokens a segment: longer ones would keep too large a matrix of probabilities
_CACHED = 2**19  # scores a thread works on at once: 1 MiB in bfloat16
_SUMS = 2.0**-60, 2.0**60  # of a row's powers: far from the ends of float32's range, which is bfloat16's
_PADDED = 2**15  # scores of all heads that are rather computed in vain than that a segment is called for alone


def dense_attention(
    q_THd: Tensor, k_THd: Tensor, v_THd: Tensor, layout: Layout, rule: Rule | None = None, bias_HTT: Tensor | None = None
) -> Tensor:
    """The reference: one mask over the whole packed axis. out_THd."""
    q, k, v = (x.transpose(0, 1) for x in (q_THd, k_THd, v_THd))
    mask = dense(layout, rule)
    if bias_HTT is not None:
        mask = bias_HTT.masked_fill(~mask, -torch.inf)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(0, 1)


def attention(
    q_THd: Tensor,
    k_THd: Tensor,
    v_THd: Tensor,
    layout: Layout,
    rule: Rule | None = None,
    bias: Sequence[Tensor] | None = None,
) -> Tensor:
    """out_THd; every token attends to the tokens of its segment that ``rule`` allows.

    Args:
        bias: what is added to the scaled products, (B, H, n, n) or (1, H, n, n), for each of ``runs(layout.lengths)``.
    """
    if q_THd.shape[0] == 0:
        return v_THd
    fits = bias is None and (rule is None or isinstance(rule, Causal))
    if q_THd.is_cuda and q_THd.dtype in (torch.float16, torch.bfloat16) and fits:
        return _varlen(q_THd, k_THd, v_THd, layout, causal=rule is not None)
    plain = q_THd.device.type == "cpu" and q_THd.dtype == torch.bfloat16 and rule is None and bias is None
    if plain and not (_tiles() and _answers_only(q_THd, k_THd, v_THd)):
        groups = _groups(layout.lengths, q_THd.shape[1])
        parts = _split((q_THd, k_THd, v_THd), [group.tokens for group in groups])
        return _joined([group.attention(*qkv) for group, qkv in zip(groups, parts, strict=True)])
    batches = list(runs(layout.lengths))
    parts = _split((q_THd, k_THd, v_THd), [count * n for _, count, n in batches])
    outs = []
    for i, ((first, count, n), qkv) in enumerate(zip(batches, parts, strict=True)):
        q, k, v = (x.unflatten(0, (count, n)).transpose(1, 2) for x in qkv)
        causal = isinstance(rule, Causal) and bias is None
        mask = None if rule is None or causal else _mask(layout, rule, first, count)
        if bias is not None:
            added = bias[i].to(q.dtype)
            mask = added if mask is None else added.masked_fill(~mask, -torch.inf)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        outs.append(out.transpose(1, 2).flatten(0, 1))
    return _joined(outs)


def _split(inputs: Sequence[Tensor], sizes: list[int]) -> list[tuple[Tensor, ...]]:
    """The inputs of each batch, in order. Split, not sliced: the gradient of a split is one concatenation, that of every slice
    a tensor of the whole batch's size; and where there is one batch, not even split."""
    if len(sizes) == 1:
        return [tuple(inputs)]
    return list(zip(*(x.split(sizes) for x in inputs), strict=True))


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _answers_only(*inputs: Tensor) -> bool:
    """Whether no gradient will be asked."""
    return not (torch.is_grad_enabled() and any(x.requires_grad for x in inputs))


@lru_cache(maxsize=1)
def _tiles() -> bool:
    """Whether the CPU multiplies bfloat16 in tiles (AMX). There the library's kernel without gradients was 1.3 to 2.3 times as
    fast as ours; where vectors multiply it, it is the slower one."""
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # newer than the oldest torch we take
    return bool(capabilities.get("amx_bf16", False))


def runs(lengths: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """(first segment, segments, length) of the longest runs of neighbours of one length; empty segments are passed over."""
    s = 0
    while s < len(lengths):
        n, count = lengths[s], 1
        while s + count < len(lengths) and lengths[s + count] == n:
            count += 1
        if n:
            yield s, count, n
        s += count


def _mask(layout: Layout, rule: Rule, segment: int, count: int) -> Tensor:
    """allowed_B1nn of segments of one length."""
    parts = [layout.cut(s) for s in range(segment, segment + count)]
    return torch.stack([rule.allowed(p, p) for p in parts])[:, None]


@dataclass(frozen=True)
class _Group:
    """Neighbouring segments that are attended to as one dense batch.

    Args:
        lengths: of the segments. longest: n.
        place_T: where each token lies among the B x n of the batch; None where all segments are as long, and it is in order.
        pad_Bn: what is no token.
    """

    lengths: tuple[int, ...]
    longest: int
    place_T: Tensor | None
    pad_Bn: Tensor | None

    @classmethod
    def of(cls, lengths: tuple[int, ...]) -> _Group:
        longest = max(lengths)
        if min(lengths) == longest:
            return cls(lengths, longest, None, None)
        with torch.inference_mode(False), torch.device("cpu"):  # it is kept, and may be met again in training
            pad_Bn = torch.arange(longest)[None] >= torch.tensor(lengths)[:, None]
            return cls(lengths, longest, (~pad_Bn).flatten().nonzero()[:, 0], pad_Bn)

    @property
    def tokens(self) -> int:
        return sum(self.lengths)

    def hide_padding(self, scores: Tensor, some: slice, heads: int) -> None:
        """No attention to what is no token, in place. ``scores`` (., n, n) of ``some`` of all heads of all segments."""
        if self.pad_Bn is None:
            return
        shortest = min(self.lengths[some.start // heads : (some.stop - 1) // heads + 1])
        pad_Bn = self.pad_Bn[:, shortest:]
        pad = pad_Bn[:, None].expand(-1, heads, -1).flatten(0, 1)[some]
        scores[..., shortest:].masked_fill_(pad[:, None], -torch.inf)

    def attention(self, q_THd: Tensor, k_THd: Tensor, v_THd: Tensor) -> Tensor:
        """out_THd."""
        if self.longest <= _PRODUCTS_UP_TO:
            return _Products.apply(q_THd, k_THd, v_THd, self)  # type: ignore[no-any-return, no-untyped-call]
        q, k, v = (self.laid(x) for x in (q_THd, k_THd, v_THd))
        mask = None if self.pad_Bn is None else ~self.pad_Bn[:, None, None]
        return self.packed(F.scaled_dot_product_attention(q, k, v, attn_mask=mask))

    def laid(self, x_THd: Tensor) -> Tensor:
        """x_BHnd, contiguous, zeros where no token is."""
        if self.place_T is not None:
            x_THd = x_THd.new_zeros(self.pad_Bn.numel(), *x_THd.shape[1:]).index_copy_(0, self.place_T, x_THd)  # type: ignore[union-attr]
        return x_THd.unflatten(0, (len(self.lengths), self.longest)).transpose(1, 2).contiguous()

    def packed(self, x_BHnd: Tensor) -> Tensor:
        """x_THd."""
        x_THd = x_BHnd.transpose(1, 2).flatten(0, 1)
        return x_THd if self.place_T is None else x_THd[self.place_T]


@lru_cache(maxsize=64)
def _groups(lengths: tuple[int, ...], heads: int) -> tuple[_Group, ...]:
    """Segments that are neighbours, together as long as the scores that padding adds stay below ``_PADDED`` a segment."""
    found: list[_Group] = []
    group: list[int] = []
    longest = squares = 0
    for n in filter(None, lengths):
        padded = (len(group) + 1) * max(longest, n) ** 2 - squares - n * n
        if heads * padded > _PADDED * len(group):  # a first one adds none
            found.append(_Group.of(tuple(group)))
            group, longest, squares = [], 0, 0
        group.append(n)
        longest, squares = max(longest, n), squares + n * n
    return (*found, _Group.of(tuple(group)))


class _Products(torch.autograd.Function):
    """softmax(q k' / sqrt(d)) v as batched products that keep the probabilities for the backward pass.

    As many heads at a time as have scores that fit into the cache, so that each matrix stays there from one operation to the
    next. Without gradients one such matrix serves them all, and the powers of the scores need no shift (``_unshifted``).
    """

    @staticmethod
    def forward(ctx: Any, q_THd: Tensor, k_THd: Tensor, v_THd: Tensor, group: _Group) -> Tensor:
        ctx.scale, ctx.group = q_THd.shape[-1] ** -0.5, group
        asked = any(ctx.needs_input_grad)
        if not asked and (answer := _unshifted(q_THd, k_THd, v_THd, group)) is not None:
            return answer
        # Laid out once: each product would copy what is strided, forward and again backward.
        q, k, v = group.laid(q_THd * ctx.scale), group.laid(k_THd), group.laid(v_THd)
        (heads, n), steps = q.shape[1:3], _steps(q)
        out = torch.empty_like(v)
        q_, k_, v_, out_ = (x.flatten(0, 1) for x in (q, k, v, out))
        scores = q.new_empty(steps[0].stop, n, n)
        # In float32, which on a CPU is twice as fast as in bfloat16.
        exact = torch.empty_like(scores, dtype=torch.promote_types(q.dtype, torch.float32))
        p_ = q.new_empty(len(q_), n, n) if asked else None
        for some in steps:
            size = some.stop - some.start
            group.hide_padding(torch.bmm(q_[some], k_[some].mT, out=scores[:size]), some, heads)
            torch.softmax(scores[:size], -1, dtype=exact.dtype, out=exact[:size])
            p = (scores[:size] if p_ is None else p_[some]).copy_(exact[:size])
            torch.bmm(p, v_[some], out=out_[some])
        ctx.save_for_backward(q, k, v, p_)
        return group.packed(out)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v, p_ = ctx.saved_tensors
        group: _Group = ctx.group
        grad, steps, n = group.laid(grads[0]), _steps(q), q.shape[2]
        made = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        q_, k_, v_, grad_, grad_q, grad_k, grad_v = (x.flatten(0, 1) for x in (q, k, v, grad, *made))
        grad_s = q.new_empty(steps[0].stop, n, n)
        for some in steps:
            g = torch.bmm(grad_[some], v_[some].mT, out=grad_s[: some.stop - some.start])
            torch.ops.aten._softmax_backward_data.out(g, p_[some], -1, q.dtype, grad_input=g)
            torch.bmm(g, k_[some], out=grad_q[some])
            torch.bmm(g.mT, q_[some], out=grad_k[some])
            torch.bmm(p_[some].mT, grad_[some], out=grad_v[some])
        grad_q, grad_k, grad_v = (group.packed(x) for x in made)
        return grad_q * ctx.scale, grad_k, grad_v, None


def _unshifted(q_THd: Tensor, k_THd: Tensor, v_THd: Tensor, group: _Group) -> Tensor | None:
    """out_THd without gradients; None where the sum of a row's powers leaves ``_SUMS``, which needs scores beyond 34.

    Powers of 2 of the scores as they are, not less their greatest, divided by their sum after the product with v: two passes
    over the scores in place of a softmax's five.
    """
    q = group.laid(q_THd * (q_THd.shape[-1] ** -0.5 * math.log2(math.e)))
    k, v = group.laid(k_THd), group.laid(v_THd)
    (heads, n), steps = q.shape[1:3], _steps(q)
    out = torch.empty_like(v)
    q_, k_, v_, out_ = (x.flatten(0, 1) for x in (q, k, v, out))
    scores, exact = q.new_empty(steps[0].stop, n, n), torch.promote_types(q.dtype, torch.float32)
    for some in steps:
        power = torch.bmm(q_[some], k_[some].mT, out=scores[: some.stop - some.start])
        group.hide_padding(power, some, heads)
        total = torch.sum(torch.exp2(power, out=power), -1, keepdim=True, dtype=exact)
        least, most = total.aminmax()
        if not (least > _SUMS[0] and most < _SUMS[1]):
            return None
        torch.bmm(power, v_[some], out=out_[some]).div_(total)
    return group.packed(out)


def _steps(q: Tensor) -> list[slice]:
    """Heads (of all segments) whose scores fit into the cache together."""
    heads, n = q.shape[0] * q.shape[1], q.shape[2]
    step = max(1, _CACHED * torch.get_num_threads() // n**2)
    return [slice(first, min(heads, first + step)) for first in range(0, heads, step)]


def _varlen(q: Tensor, k: Tensor, v: Tensor, layout: Layout, causal: bool) -> Tensor:
    """The library's variable-length kernel."""
    from torch.nn.attention.varlen import varlen_attn

    ends = F.pad(layout.start_S[1:], (1, 1))
    ends[-1] = len(layout)
    ends = ends.to(torch.int32)
    longest = max(layout.lengths)
    window = (-1, 0) if causal else (-1, -1)
    return varlen_attn(q, k, v, ends, ends, longest, longest, window_size=window)  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Multi-head self-attention over packed tokens.

    Args:
        width: D. heads: H, a divisor of the width. bias: on all four products. qkv_bias: whether those of query, key and value
            have theirs, too.

    ``attend`` is ``attention``; a compiled model has it outside its graphs.
    """

    attend = staticmethod(attention)

    def __init__(self, width: int, heads: int, bias: bool = True, qkv_bias: bool = True):
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is no multiple of heads {heads}")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=bias and qkv_bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(
        self,
        x_TD: Tensor,
        layout: Layout,
        rule: Rule | None = None,
        turn: tuple[Tensor, Tensor] | None = None,
        bias: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """y_TD. ``turn``: rotary (cos_Td, sin_Td) for queries and keys. ``bias``: see ``attention``."""
        qkv_T3Hd = self.qkv(x_TD).unflatten(1, (3, self.heads, -1))
        if turn is None:
            q, k, v = qkv_T3Hd.unbind(1)
        else:
            qk_T2Hd, v_T1Hd = qkv_T3Hd.split([2, 1], dim=1)
            (q, k), v = rotate(qk_T2Hd, *turn).unbind(1), v_T1Hd[:, 0]
        return self.out(self.attend(q, k, v, layout, rule, bias).flatten(1))
