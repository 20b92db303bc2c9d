"""Attention on the packed axis: exact, inside each segment, on the fastest path the device has.

Shape suffixes: T packed tokens, B segments of one length, n their length, H heads, d head width, S segments, D width.

Backends, all equal to ``dense_attention`` (the reference, kept for tests) up to rounding:
- CPU: neighbouring segments of one length run as one dense batch, in float32 or float64 through the library's scaled dot
  product, in bfloat16 through four batched products with their own backward (the library's is several times slower there).
- CUDA: the library's variable-length kernel; where a rule, a bias or a dtype does not fit it, the batches of one length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmm.core.layout import Layout
from mmm.core.rule import Causal, Rule, dense

from .rotary import rotate

_PRODUCTS_UP_TO = 1024  # tokens a segment: longer ones would keep too large a matrix of probabilities
_CACHED = 2**19  # scores a thread works on at once: 1 MiB in bfloat16


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
    batches = list(runs(layout.lengths))
    sizes = [count * n for _, count, n in batches]
    outs = []
    # Split, not sliced: the gradient of a split is one concatenation, that of every slice a tensor of the whole batch's size.
    for i, ((first, count, n), *qkv) in enumerate(zip(batches, *(x.split(sizes) for x in (q_THd, k_THd, v_THd)), strict=True)):
        q, k, v = (x.unflatten(0, (count, n)).transpose(1, 2) for x in qkv)
        causal = isinstance(rule, Causal) and bias is None
        mask = None if rule is None or causal else _mask(layout, rule, first, count)
        if bias is not None:
            added = bias[i].to(q.dtype)
            mask = added if mask is None else added.masked_fill(~mask, -torch.inf)
        outs.append(_batch(q, k, v, mask, causal).transpose(1, 2).flatten(0, 1))
    return torch.cat(outs)


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


def _batch(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """Scaled dot product attention of (B, H, n, d)."""
    plain = mask is None and not causal
    if plain and q.device.type == "cpu" and q.dtype == torch.bfloat16 and q.shape[2] <= _PRODUCTS_UP_TO:
        return _Products.apply(q, k, v)  # type: ignore[no-any-return, no-untyped-call]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)


class _Products(torch.autograd.Function):
    """softmax(q k' / sqrt(d)) v as batched products that keep the probabilities for the backward pass.

    Where all scores do not fit into the cache, some heads at a time, so that each matrix stays there from one operation to
    the next.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        ctx.scale = q.shape[-1] ** -0.5
        # Laid out once: each product would copy what is strided, forward and again backward.
        q, k, v = (q * ctx.scale).contiguous(), k.contiguous(), v.contiguous()
        steps = _steps(q)
        if len(steps) == 1:
            p = _softmax(q @ k.mT)
            out = p @ v
        else:
            p, out = q.new_empty(*q.shape[:3], q.shape[2]), torch.empty_like(v)
            q_, k_, v_, p_, out_ = (x.flatten(0, 1) for x in (q, k, v, p, out))
            for some in steps:
                p_[some] = _softmax(q_[some] @ k_[some].mT)
                torch.bmm(p_[some], v_[some], out=out_[some])
        ctx.save_for_backward(q, k, v, p)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, p = ctx.saved_tensors
        grad, steps = grads[0].contiguous(), _steps(q)
        if len(steps) == 1:
            grad_s = _softmax_backward(grad @ v.mT, p)
            return (grad_s @ k) * ctx.scale, grad_s.mT @ q, p.mT @ grad
        made = tuple(torch.empty_like(x) for x in (q, k, v))
        q_, k_, v_, p_, grad_, grad_q, grad_k, grad_v = (x.flatten(0, 1) for x in (q, k, v, p, grad, *made))
        for some in steps:
            grad_s = _softmax_backward(grad_[some] @ v_[some].mT, p_[some])
            torch.bmm(grad_s, k_[some], out=grad_q[some])
            torch.bmm(grad_s.mT, q_[some], out=grad_k[some])
            torch.bmm(p_[some].mT, grad_[some], out=grad_v[some])
        grad_q *= ctx.scale
        return made


def _steps(q: Tensor) -> list[slice]:
    """Heads (of all segments) whose scores fit into the cache together."""
    heads, n = q.shape[0] * q.shape[1], q.shape[2]
    step = max(1, _CACHED * torch.get_num_threads() // n**2)
    return [slice(first, first + step) for first in range(0, heads, step)]


def _softmax(scores: Tensor) -> Tensor:
    """In float32, which on a CPU is twice as fast as in bfloat16."""
    return torch.softmax(scores, dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32)).to(scores.dtype)


def _softmax_backward(grad_p: Tensor, p: Tensor) -> Tensor:
    return torch.ops.aten._softmax_backward_data(grad_p, p, -1, p.dtype)  # type: ignore[no-any-return]


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
        q, k, v = self.qkv(x_TD).unflatten(1, (3, self.heads, -1)).unbind(1)
        if turn is not None:
            q, k = rotate(q, *turn), rotate(k, *turn)
        return self.out(self.attend(q, k, v, layout, rule, bias).flatten(1))
